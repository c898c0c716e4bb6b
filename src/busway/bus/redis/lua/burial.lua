-- What becomes of what receivers hold, of processes that died, and of what nobody fetches. Put
-- between `common` and the scripts that need it.

-- Settles what a receiver held that had begun up to place `begun`: what it began is lost, and
-- counted; the rest goes back in front. So do bundles that it was handed and are done on delivery, from
-- the one with the number `awaits`.
local function settle(receiver, begun, awaits, came)
  local handed = {}
  for _, bundle in ipairs(call('LRANGE', P .. 'p:' .. receiver, awaits - 1, '-1')) do
    for _, item in ipairs(untie(bundle)) do handed[#handed + 1] = item end
  end
  call('DEL', P .. 'a:' .. receiver, P .. 'p:' .. receiver)
  waiting = waiting - #handed / 2 - (came or 0)
  put_back(handed)
  local key = P .. 'h:' .. receiver
  local found = call('HGETALL', key)
  if #found == 0 then return end
  local fields, firsts = {}, {}
  for i = 1, #found, 2 do
    fields[found[i]] = found[i + 1]
    local first = tonumber(found[i])
    if first then firsts[#firsts + 1] = first end
  end
  table.sort(firsts)
  begun = begun or tonumber(fields.b or 0)
  waiting = waiting - (fields.w or 0)
  local back, lost = {}, {}
  for _, first in ipairs(firsts) do
    local items = untie(fields[tostring(first)])
    local gone = {}
    for index in (fields['x' .. first] or ''):gmatch('%d+') do gone[tonumber(index)] = true end
    for i = 1, #items, 2 do
      local index = (i + 1) / 2
      if not gone[index] then
        local list = first + index - 1 <= begun and lost or back
        list[#list + 1] = items[i]
        list[#list + 1] = items[i + 1]
      end
    end
  end
  call('DEL', key)
  put_back(back)
  for i = 1, #lost, 2 do
    drop(channel(address_of((head_of(lost[i])))), 'receiver died')
    if lost[i + 1] ~= '' then release(lost[i + 1]) end
  end
end

-- Takes note that a receiver is gone. Its last reply stays: it may only have been cut off, and ask
-- again; and what it has sent may come yet.
local function dismiss(receiver)
  call('SETRANGE', P .. 'x:' .. receiver, LAST_TO, '\1')
  call('EXPIRE', P .. 'x:' .. receiver, KEPT)
end

-- Drops what waits for a prefix whose process died; its lanes go on, its channels leave their groups.
local function abandon(prefix)
  local record = channel(prefix)
  record.owner = ''
  record.remade = true
  while true do
    flush(record)
    local bundle = call('LPOP', P .. 'm:' .. prefix)
    if not bundle then break end
    release_all(bundle)
  end
  if record.pending > 0 then drop(record, 'receiver died', record.pending) end
  waiting = waiting - record.pending
  record.pending = 0
  record.changed = true
  unblock(record)
  leave(prefix)
end

local function bury(process)
  local receivers = call('SMEMBERS', P .. 'r:' .. process)
  local subscriptions = call('HKEYS', P .. 'subs')
  for _, receiver in ipairs(receivers) do
    settle(receiver, nil, 1)
    dismiss(receiver)
    for _, name in ipairs(subscriptions) do call('ZREM', P .. 's:' .. name, receiver) end
  end
  for _, prefix in ipairs(call('SMEMBERS', P .. 'o:' .. process)) do
    if channel(prefix).owner == process then abandon(prefix) end
  end
  call('DEL', P .. 'r:' .. process, P .. 'o:' .. process)
  call('ZREM', P .. 'processes', process)
  for _, name in ipairs(subscriptions) do
    for _, address in ipairs(unpack_(call('HGET', P .. 'subs', name))) do
      -- The dead receiver may have been the one that was woken for it.
      if call('EXISTS', P .. 'm:' .. address) == 1 then ring(channel(address), 1) end
    end
  end
end

local AWAY = 3  -- seconds that processes have to come back when none was heard of

-- Buries those that are not heard of any more, but for `me`. Where nobody was heard of it was the
-- server that was away, or the network.
local function bury_dead(me)
  local processes, away = P .. 'processes', P .. 'away'
  local dead = call('ZRANGEBYSCORE', processes, '-inf', now)
  if #dead > 0 then
    if #dead == call('ZCARD', processes) then
      call('SET', away, string.format('%.6f', now), 'NX', 'EX', 60)
    end
    local since = call('GET', away)
    if since and now < tonumber(since) + AWAY then return end
    for _, each in ipairs(dead) do
      if each ~= me then bury(each) end
    end
  end
  call('DEL', away)
end

local IDLE = 60  -- seconds after which what is of passing use is forgotten

local function drop_subscription(name, names)
  for _, each in ipairs(names) do
    local record = channel(each)
    record.subs = (record.subs .. ' '):gsub(' ' .. name .. ' ', ' '):gsub(' $', '')
    record.changed, record.remade = true, true
  end
  call('HDEL', P .. 'subs', name)
  call('DEL', P .. 'u:' .. name)
end

local function is_idle(record)
  return record.subs == '' and record.owner == '' and not record.fresh
    and call('EXISTS', P .. 'm:' .. record.address) == 0
end

local function forget_channel(record)
  local address = record.address
  local counts = call('HGETALL', P .. 'c:' .. address)
  for i = 1, #counts, 2 do
    local field = counts[i]
    if field == 'accepted' or field == 'refused' or field:sub(1, 8) == 'dropped:' then
      call('HINCRBY', P .. 'past', field, counts[i + 1])
    end
  end
  call('DEL', P .. 'c:' .. address)
  call('SREM', P .. 'channels', address)
  channels[address] = nil
end

local function tidy(address)
  local record = channel(address)
  purge(record)
  if address:find('[!?]') and not record.changed and is_idle(record) then
    local used = tonumber(call('HGET', P .. 'c:' .. address, 'used') or 0)
    if used < now - IDLE then forget_channel(record) end
  end
end

-- Drops what has expired, and what is of no use any more; at most about `limit` of each kind.
local function sweep(limit)
  promote(limit)
  local cursor = call('GET', P .. 'cursor') or '0'
  local found = call('SSCAN', P .. 'channels', cursor, 'COUNT', limit)
  call('SET', P .. 'cursor', found[1], 'EX', 600)
  for _, address in ipairs(found[2]) do tidy(address) end
  for _, group in ipairs(call('ZRANGEBYSCORE', P .. 'groups', '-inf', now, 'LIMIT', 0, limit)) do
    local key = P .. 'g:' .. group
    for _, member in ipairs(call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, limit)) do
      discard(group, member)
    end
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then
      call('ZADD', P .. 'groups', first[2], group)
    else
      call('ZREM', P .. 'groups', group)
    end
  end
  for _, name in ipairs(call('HKEYS', P .. 'subs')) do
    if call('EXISTS', P .. 's:' .. name) == 1 then
      call('DEL', P .. 'u:' .. name)
    elseif call('SET', P .. 'u:' .. name, now, 'NX') == false then
      if tonumber(call('GET', P .. 'u:' .. name)) < now - IDLE then
        drop_subscription(name, unpack_(call('HGET', P .. 'subs', name)))
      end
    end
  end
end
