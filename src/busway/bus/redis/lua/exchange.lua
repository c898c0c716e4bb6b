-- exchange(P; request, bundles and envelopes…) -> taken, refused, due, waiting, now
--
-- One receiver's exchange on one shard: see `Receiver.exchange`.
--
--   request   the fields of `wire.Request`, in their order, in msgpack one after another
--   taken     bundles
--   refused   msgpack array: segment, place in it, reason, segment, place in it, reason…
--   due       when the next delayed message is due, in seconds since the epoch; "0": there is none
--   waiting   how many messages wait on this shard
--   now       the time, in microseconds since the epoch
--
-- Errors, and nothing is done: "LATE" when the receiver has asked for more since, or for this again;
-- "UNKNOWN" when it has left, or was thought dead: who lives asks again, and names its process.
--
-- reads and writes   c m w l b lw d h x subs s g t of groups channels bell waiting
-- writes             r processes o

local MAX_PROMOTED = 500
local MAX_UNPACKED = 4000  -- values: Lua's stack has room for some more
local HELD = -1  -- instead of the number of a bundle
local ALIVE = 6  -- seconds for which a process counts as alive after it was heard of

local receiver, number, again, process, segments, done, finished, gone, returned_finished,
  returned_gone, returned, names, limit, wake_below, hold, earlier, earlier_names, subscription,
  place, reach, laned, turn, sleeps, full, credit, awaits, came, over = unpack_(ARGV[1])

-- What may have been done already has to be written down, whatever becomes of it.
if full or again then insist() end

-- What was sent on a connection that was given up may come after what was sent on the next one, or
-- when the receiver is gone.
local last_key = P .. 'x:' .. receiver
local last, has_left = call('GETRANGE', last_key, LAST_FROM, LAST_TO), 0
if last ~= '' then
  local last_number
  last_number, has_left = struct.unpack(LAST, last)
  if last_number == number and again then
    local _, refused, due, taken, places = unpack(unpack_(call('GET', last_key)))
    taken = taken or {}
    for _, first in ipairs(places or {}) do
      local bundle = call('HGET', P .. 'h:' .. receiver, first)
      if bundle then taken[#taken + 1] = bundle end
    end
    return {taken, refused or '', due or '0', finish(), now * 1000000}
  end
  if last_number >= number then
    return redis.error_reply('LATE more was asked since, on another connection')
  end
  if has_left == 1 and process == '' then
    return redis.error_reply('UNKNOWN receiver: it has left, or was thought dead')
  end
end

if process ~= '' then
  has_left = 0
  call('SADD', P .. 'r:' .. process, receiver)
  call('ZADD', P .. 'processes', now + ALIVE, process)
  for _, name in ipairs(names or {}) do
    if name:sub(-1) == '!' then queues().own(name, receiver) end
  end
end

-- What takes away first must not let the rest go on on a server whose memory is in use.
if segments and (awaits ~= 0 or came > 0) and not (full or again) then
  call('SETRANGE', P .. 'nothing', '0', '')
end

waiting = -came
if came > 0 and awaits == 0 then call('HDEL', P .. 'h:' .. receiver, 'w') end
if over > 0 then call('HINCRBY', P .. 'past', 'dropped:server restarted', -over) end

-- What it was handed while it slept, and has not seen yet. Nobody hands it anything meanwhile.
local unseen
if awaits ~= 0 then
  call('ZREM', P .. 's:' .. earlier, receiver)
  if awaits == HELD then
    unseen = {call('HGET', P .. 'h:' .. receiver, place) or nil}
    if unseen[1] then call('HDEL', P .. 'h:' .. receiver, 'w') end
  else
    local key = P .. 'p:' .. receiver
    unseen = call('LRANGE', key, awaits - 1, '-1')
    -- A server that took over may not know of all that came.
    if not unseen[1] and call('LLEN', key) < awaits - 1 then unseen = call('LRANGE', key, '0', '-1') end
    call('DEL', key)
  end
end

-- Operations ---------------------------------------------------------------------------------

local others, refused
if segments then
  local at = 1
  for index, segment in ipairs(segments) do
    -- A bundle for one channel is not opened where it finds room as it is.
    local size, record = segment[2], nil
    local fits = segment[1] == 0 and not (others and others.closed.any)
    if fits then
      record = channel(segment[3])
      fits = record.pending + size <= segment[4]
    end
    if fits and segment[6] then
      -- All its lanes are brought into use, if none of them is.
      local lanes, n = {}, 0
      for i = 6, #segment, 2 do
        n = n + 1
        lanes[n] = segment[i]
      end
      local found = call('HMGET', P .. 'l', unpack(lanes))
      for i = 1, n do fits = fits and not found[i] end
      if fits then call('HSET', P .. 'l', unpack(segment, 6)) end
    end
    if fits then
      if record.fresh then Q.flush(record) end
      at = at + 1
      record.accepted = record.accepted + size
      record.changed = true
      waiting = waiting + size
      if record.subs == '' or not hand_over(record, ARGV[at], size) then
        call('RPUSH', P .. 'm:' .. record.address, ARGV[at])
        record.pending = record.pending + size
        ring(record, size)
      end
    else
      others = others or make_others(wake_below > 0 and receiver or nil, full)
      at = others.operations[segment[1] + 1](index, segment, at)
    end
  end
  refused = others and others.refused[1] and pack(others.refused)
end

-- What is held -------------------------------------------------------------------------------

if returned then queues().return_all(receiver, returned) end
if refused then
  finished, gone = returned_finished, returned_gone
elseif done then
  -- Their lanes go on.
  local n = #done / 2
  for from = 1, n, MAX_UNPACKED do
    local last, behind = math.min(from + MAX_UNPACKED - 1, n), {}
    local found = call('HMGET', P .. 'l', unpack(done, from, last))
    for i = from, last do
      local lane, id, in_front = done[i], done[n + i], found[i - from + 1]
      if in_front ~= id then
        done[i] = ''  -- the name of no lane
        if in_front then behind[#behind + 1] = id .. lane end
      end
    end
    call('HDEL', P .. 'l', unpack(done, from, last))
    for _, turn in ipairs(behind) do queues().release(turn) end
  end
end

-- Taking -------------------------------------------------------------------------------------

local taken, count, due = {}, 0, '0'
local kept = {}  -- how many messages of each bundle are held
local room = 4 * 1024 * 1024  -- bytes
for i, bundle in ipairs(unseen or {}) do
  local _, size = struct.unpack('>BH', bundle)
  waiting = waiting - size
  if count + size <= limit and earlier == subscription and (awaits == HELD) == hold then
    taken[i], kept[i] = bundle, hold and size or 0
    count = count + size
  else
    -- It wants less now, or something else.
    if awaits == HELD then call('HDEL', P .. 'h:' .. receiver, place) end
    local items = {}
    for from = i, #unseen do
      for _, item in ipairs(queues().untie(unseen[from])) do items[#items + 1] = item end
    end
    waiting = waiting + size - #items / 2  -- put back, they count again
    Q.put_back(items)
    break
  end
end
if limit > 0 then
  -- Takes up to `most` messages off a channel; returns how many, nil when there was nothing.
  local function take(name, most)
    local call, key = redis.call, KEYS[1] .. 'm:' .. name
    local record, keeps, left = nil, nil, most
    while left > 0 and room > 0 do
      local bundle = call('LPOP', key)
      if not bundle then break end
      if not record then record, keeps = channel(name), hold and not name:find('[!?]') end
      local notice, size, expires = struct.unpack('>BHd', bundle)
      if expires <= now or (notice == 0 and size > left) then
        bundle = queues().open(record, key, bundle, left)
        if bundle then notice, size = struct.unpack('>BHd', bundle) end
      end
      if bundle then
        taken[#taken + 1], kept[#kept + 1] = bundle, keeps and size or 0
        room = room - #bundle
        if notice == 0 then
          left = left - size
          waiting = waiting - size
          record.pending = record.pending - size
        end
      end
    end
    if not record then return nil end
    record.changed = true
    if record.blocked ~= '' then queues().unblock(record) end
    return most - left
  end

  local first = call('ZRANGE', P .. 'd', '0', '0', 'WITHSCORES')[2]
  if first then due = tonumber(first) > now and first or queues().promote(MAX_PROMOTED) end
  if Q then Q.flush_all(names) end
  repeat
    if names[2] then
      -- A fair share of each channel first, then what is left.
      local keys, full, found = {}, 0, {}
      for i = 1, #names do keys[i] = P .. 'm:' .. names[i] end
      for from = 1, #keys, MAX_UNPACKED do
        full = full + call('EXISTS', unpack(keys, from, math.min(from + MAX_UNPACKED - 1, #keys)))
      end
      local share = math.max(1, math.floor((limit - count) / full))
      for i = 1, #names do
        if #found == full then break end
        local name = names[(i + turn) % #names + 1]
        local taken_here = take(name, math.min(share, limit - count))
        if taken_here then
          count = count + taken_here
          found[#found + 1] = name
        end
      end
      if found[2] then
        for _, name in ipairs(found) do count = count + (take(name, limit - count) or 0) end
      end
    else
      count = count + (take(names[1], limit - count) or 0)
    end
    -- Lanes may have gone on behind messages that had expired.
  until count >= limit or room <= 0 or not (Q and Q.flush_all(names))
end

local changes, places, loose = gone, nil, nil
if taken[1] then
  changes, places, loose = changes or {}, {}, {}
  for i, bundle in ipairs(taken) do
    if kept[i] > 0 then
      places[#places + 1] = place
      changes[#changes + 1], changes[#changes + 2] = place, bundle
      place = place + kept[i]
    else
      loose[#loose + 1] = bundle
      if laned then queues().release_all(bundle) end
    end
  end
  if places[1] and reach > 0 then
    changes[#changes + 1], changes[#changes + 2] = 'b', math.min(places[1] + reach, place) - 1
  end
end
if finished or (changes and changes[1]) then
  local key = P .. 'h:' .. receiver
  local function call_with(command, list)
    for from = 1, #list, MAX_UNPACKED do
      call(command, key, unpack(list, from, math.min(from + MAX_UNPACKED - 1, #list)))
    end
  end
  if finished then call_with('HDEL', finished) end
  if changes then call_with('HSET', changes) end
end

-- Waiting ------------------------------------------------------------------------------------

if names or earlier ~= '' then
  -- Wakes others for what is there.
  local function pass_on(those)
    if Q then Q.flush_all(those) end
    for _, name in ipairs(those) do
      local record = channels[name]
      local may_sleep = not record or record.subs ~= ''
      if may_sleep and redis.call('EXISTS', KEYS[1] .. 'm:' .. name) == 1 then
        ring(channel(name), 1)
      end
    end
  end

  local wanted = sleeps or (limit > 0 and count < wake_below)
  if earlier ~= '' and (earlier ~= subscription or not wanted) then
    call('ZREM', P .. 's:' .. earlier, receiver)
    if earlier ~= subscription then pass_on(earlier_names or {}) end
  end
  if wanted then
    if call('HEXISTS', P .. 'subs', subscription) == 0 then
      call('HSET', P .. 'subs', subscription, pack(names))
      for _, name in ipairs(names) do
        local record = channel(name)
        record.subs = record.subs .. ' ' .. subscription
        record.changed, record.remade = true, true
        if name:sub(-1) == '!' then queues().own(name, receiver) end
      end
    end
    call('ZADD', P .. 's:' .. subscription, 'NX', now * 1000000, receiver)
    if credit > 0 then
      local order = struct.pack('>dI4di4', number, credit, hold and place or 0, hold and reach or -1)
      call('SET', P .. 'a:' .. receiver, order)
    elseif credit < 0 then
      call('DEL', P .. 'a:' .. receiver)
    end
  end
  -- Large messages may have been left, and lanes that were let go without being held may have
  -- brought new ones.
  local looked = count < limit and room > 0 and (hold or not laned)
  if names and not looked then pass_on(names) end
end
local left = finish()

if again or process ~= '' or taken[1] or segments or done or returned or credit > 0 or came > 0 or over > 0 then
  local reply = struct.pack(LAST, number, has_left)
  if taken[1] or refused or due ~= '0' then
    reply = pack({reply, refused or '', due, loose, places})
  else
    reply = '\145\169' .. reply  -- an array of that alone
  end
  call('SET', last_key, reply, 'EX', KEPT)
end
return {taken, refused or '', due, left, now * 1000000}
