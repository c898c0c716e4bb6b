-- exchange(P; request, envelopes…) -> taken, refused, due
--
-- One receiver's exchange on one shard: see `Receiver.exchange`.
--
--   request   msgpack array: the fields of `wire.Request`, in their order
--   taken     msgpack array of envelopes
--   refused   msgpack array: index, reason, index, reason…
--   due       when the next delayed message is due, in seconds since the epoch; "0": there is none
--
-- reads and writes   c m w l b lw d h subs s g t of groups channels bell
-- writes             x r processes o

local RECEIVER, NUMBER, AGAIN, PROCESS, RULES, SEGMENTS, DONE, FINISHED, GONE, RETURNED_FINISHED,
  RETURNED_GONE, RETURNED, CHANNELS, LIMIT, WAKE_BELOW, HOLD, EARLIER, EARLIER_CHANNELS,
  SUBSCRIPTION, PLACE, REACH, LANED, TURN = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
  17, 18, 19, 20, 21, 22, 23
local EVERYONE = 1000000
local MAX_SIZE = 4 * 1024 * 1024
local MAX_PROMOTED = 500
local ALIVE = 6  -- seconds for which a process counts as alive after it was heard of

local request = unpack_(ARGV[1])
local receiver = request[RECEIVER]
local next_argument = 1
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument]
end

if request[AGAIN] then
  local last = call('GET', P .. 'x:' .. receiver)
  if last then
    last = unpack_(last)
    if last[1] == request[NUMBER] then return last[2] end
  end
end

if request[PROCESS] ~= '' then
  call('SADD', P .. 'r:' .. request[PROCESS], receiver)
  call('ZADD', P .. 'processes', now + ALIVE, request[PROCESS])
end

-- Operations ---------------------------------------------------------------------------------

local refused, closed = {}, {}
local sender = request[WAKE_BELOW] > 0 and receiver or nil

local function refuse(index, record, why, turn)
  refused[#refused + 1] = index
  refused[#refused + 1] = why
  record.refused = record.refused + 1
  record.changed = true
  if turn ~= '' then closed[turn:sub(17)] = true end
end

local rules = request[RULES]

local function sends(segment)
  local index = segment[2]
  for i = 4, #segment, 2 do
    local rule, turn, envelope = segment[i], segment[i + 1], argument()
    local record = channel(rules[rule])
    local why
    if turn ~= '' and closed[turn:sub(17)] then
      why = 'lane'
    else
      why = place(record, envelope, turn, rules[rule + 1], rules[rule + 2], sender)
    end
    if why then
      refuse(index, record, why, turn)
    else
      record.accepted = record.accepted + 1
      record.changed = true
    end
    index = index + 1
  end
end

local function delayed(segment)
  local _, index, rule, turn, due, id = unpack(segment)
  local record, envelope = channel(rules[rule]), argument()
  if turn ~= '' and closed[turn:sub(17)] then return refuse(index, record, 'lane', turn) end
  call('ZADD', P .. 'd', due, id .. pack({record.address, turn, envelope}))
  record.accepted = record.accepted + 1
  record.changed = true
  ring(record, EVERYONE)
end

local function notify(member)
  if member:find('!', 1, true) then enqueue(channel(address_of(member)), argument(), '') end
end

local function group_add(segment)
  local _, _, group, member, expires, rule = unpack(segment)
  local address = address_of(member)
  local key = P .. 't:' .. group
  local raw = call('HGET', key, address)
  local target = raw and unpack_(raw) or {0, 0}
  if call('ZADD', P .. 'g:' .. group, expires, member) == 1 then
    call('ZADD', P .. 'of:' .. address, 0, member .. '\0' .. group)
    target[1] = target[1] + 1
  end
  target[2], target[3] = math.max(target[2], expires), rule
  call('HSET', key, address, pack(target))
  call('ZADD', P .. 'groups', 'LT', expires, group)
  notify(member)
end

local function group_discard(segment)
  local _, _, group, member = unpack(segment)
  if discard(group, member) then
    notify(member)
  elseif member:find('!', 1, true) then
    argument()
  end
end

local function lane_of(rule, values)
  local value = rule[4] ~= '' and values[rule[4]]
  if not value then return '', '' end
  local lane = rule[5] .. '\0' .. value
  return lane, #lane <= 200 and lane or redis.sha1hex(lane)
end

local function group_send(segment)
  local _, _, group, id, values = unpack(segment)
  local core = argument()
  local found = call('HGETALL', P .. 't:' .. group)
  local group_end = pack(group) .. '\1'
  for i = 1, #found, 2 do
    local address, target = found[i], unpack_(found[i + 1])
    if target[2] > now then
      local rule = target[3]
      local to_process = address:sub(-1) == '!'
      local lane, turn, low = '', '', struct.pack('>I4', (i - 1) / 2)
      if not to_process then
        lane, turn = lane_of(rule, values)
        if turn ~= '' then turn = id:sub(1, 8) .. string.format('%08x', (i - 1) / 2) .. turn end
      end
      local envelope = '\153\203' .. struct.pack('>d', now + rule[3])
        .. (to_process and '\1' or '\0') .. '\207'
        .. struct.pack('>I4', tonumber(id:sub(1, 8), 16)) .. low .. pack(address) .. core
        .. pack(lane) .. (to_process and group_end or '\160\1')
      local record = channel(address)
      if place(record, envelope, turn, rule[1], rule[2], nil) then
        drop(record, 'full')
      else
        record.accepted = record.accepted + 1
        record.changed = true
      end
    end
  end
end

local function leave_all(segment)
  local member = segment[3]
  if leave(member) then
    notify(member)
  elseif member:find('!', 1, true) then
    argument()
  end
end

-- What was taken and not held, by somebody who is gone.
local function restore(segment)
  local items = {}
  for i = 3, #segment do
    items[#items + 1] = argument()
    items[#items + 1] = segment[i]
    if segment[i] ~= '' then begin_lane(segment[i]) end
  end
  put_back(items)
end

local operations = {[0] = sends, group_add, group_discard, group_send, delayed, leave_all, restore}

-- What is held -------------------------------------------------------------------------------

local held = P .. 'h:' .. receiver

local function return_all(places)
  local bundles, items = {}, {}
  for i = 1, #places, 2 do
    local first, index = places[i], places[i + 1]
    if bundles[first] == nil then
      local bundle = call('HGET', held, first)
      bundles[first] = bundle and unpack_(bundle) or false
    end
    local bundle = bundles[first]
    if bundle then
      items[#items + 1] = bundle[2 * index - 1]
      items[#items + 1] = bundle[2 * index]
    end
  end
  put_back(items)
end

local function forget(finished, gone)
  in_parts('HDEL', held, finished)
  in_parts('HSET', held, gone)
end

-- Taking -------------------------------------------------------------------------------------

local taken, size, count, kept, released = {}, 0, 0, {}, {}

local function take_from(name, limit)
  local key = P .. 'm:' .. name
  local record, left = nil, limit
  local keeps = request[HOLD] and not name:find('[!?]')
  while left > 0 and size < MAX_SIZE do
    local bundle = call('LPOP', key)
    if not bundle then break end
    record = record or channel(name)
    local items = without_expired(record, unpack_(bundle))
    if items then
      local n = #items
      if is_notice(items[1]) then
        taken[#taken + 1] = items[1]
      else
        if n > 2 * left then
          call('LPUSH', key, pack({unpack(items, 2 * left + 1, n)}))
          n = 2 * left
        end
        left = left - n / 2
        record.pending = record.pending - n / 2
        for i = 1, n, 2 do
          taken[#taken + 1] = items[i]
          size = size + #items[i]
          if keeps then
            kept[#kept + 1] = items[i]
            kept[#kept + 1] = items[i + 1]
          elseif items[i + 1] ~= '' then
            released[#released + 1] = items[i + 1]
          end
        end
      end
    end
  end
  if record then
    record.changed = true
    unblock(record)
  end
  count = count + limit - left
  return limit - left
end

local function flush_all(names)
  local any = false
  for _, name in ipairs(names) do
    if channels[name] and channels[name].fresh[1] then
      flush(channels[name])
      any = true
    end
  end
  return any
end

-- A fair share of each channel first, then what is left.
local function take_round(names, limit)
  if #names == 1 then return take_from(names[1], limit) end
  local found = {}
  for i = 1, #names do
    local name = names[(i + request[TURN]) % #names + 1]
    if call('EXISTS', P .. 'm:' .. name) == 1 then found[#found + 1] = name end
  end
  local left = limit
  if #found > 1 then
    local share = math.max(1, math.floor(limit / #found))
    for _, name in ipairs(found) do left = left - take_from(name, math.min(share, left)) end
  end
  for _, name in ipairs(found) do left = left - take_from(name, left) end
end

local function take(names, limit)
  flush_all(names)
  take_round(names, limit)
  -- Lanes may have gone on behind messages that had expired.
  while count < limit and size < MAX_SIZE and flush_all(names) do
    take_round(names, limit - count)
  end
end

local function keep()
  local place = request[PLACE]
  if kept[1] then
    if request[REACH] > 0 then
      call('HSET', held, place, pack(kept), 'b', place + request[REACH] - 1)
    else
      call('HSET', held, place, pack(kept))
    end
  end
  for _, turn in ipairs(released) do release(turn) end
end

-- Waiting ------------------------------------------------------------------------------------

local function pass_on(names)
  for _, name in ipairs(names) do
    if channels[name] then flush(channels[name]) end
    if call('EXISTS', P .. 'm:' .. name) == 1 then ring(channel(name), 1) end
  end
end

local function subscribe(name, names)
  if call('HEXISTS', P .. 'subs', name) == 0 then
    call('HSET', P .. 'subs', name, pack(names))
    for _, each in ipairs(names) do
      local record = channel(each)
      record.subs = record.subs .. ' ' .. name
      record.changed = true
      if each:sub(-1) == '!' then
        record.owner = receiver:match('^(.*)%.')
        call('SADD', P .. 'o:' .. record.owner, each)
      end
    end
  end
  call('ZADD', P .. 's:' .. name, 'NX', now * 1000000, receiver)
end

local function register(wanted, nothing_left)
  local earlier, name = request[EARLIER], request[SUBSCRIPTION]
  if earlier ~= '' and (earlier ~= name or not wanted) then
    call('ZREM', P .. 's:' .. earlier, receiver)
    if earlier ~= name then pass_on(request[EARLIER_CHANNELS]) end
  end
  if wanted then subscribe(name, request[CHANNELS]) end
  if not nothing_left then pass_on(request[CHANNELS]) end
end

-- The whole ----------------------------------------------------------------------------------

local names = {}
for _, segment in ipairs(request[SEGMENTS]) do
  if segment[1] == 0 then
    for i = 5, #segment, 2 do
      if segment[i] ~= '' then names[#names + 1] = segment[i]:sub(17) end
    end
  end
end
for _, turn in ipairs(request[DONE]) do names[#names + 1] = turn:sub(17) end
load_lanes(names)

for _, segment in ipairs(request[SEGMENTS]) do operations[segment[1]](segment) end
if request[RETURNED][1] then return_all(request[RETURNED]) end
if refused[1] then
  forget(request[RETURNED_FINISHED], request[RETURNED_GONE])
else
  for _, turn in ipairs(request[DONE]) do release(turn) end
  forget(request[FINISHED], request[GONE])
end
local due = 0
if request[LIMIT] > 0 then
  due = promote(MAX_PROMOTED)
  take(request[CHANNELS], request[LIMIT])
  keep()
end
if request[CHANNELS][1] then
  local looked = count < request[LIMIT] and (request[HOLD] or not request[LANED])
  register(request[LIMIT] > 0 and count < request[WAKE_BELOW], looked)
end
finish()

local reply = {
  taken[1] and '\220' .. struct.pack('>H', #taken) .. table.concat(taken) or '',
  refused[1] and pack(refused) or '',
  tostring(due),
}
if taken[1] or request[SEGMENTS][1] or request[DONE][1] or request[RETURNED][1] then
  call('SET', P .. 'x:' .. receiver, pack({request[NUMBER], reply}), 'EX', 60)
end
return reply
