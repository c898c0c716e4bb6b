-- exchange(P; request, bundles and envelopes…) -> taken, refused, due, waiting, now
--
-- One receiver's exchange on one shard: see `Receiver.exchange`.
--
--   request   msgpack array: the fields of `wire.Request`, in their order
--   taken     msgpack arrays of envelopes
--   refused   msgpack array: segment, place in it, reason, segment, place in it, reason…
--   due       when the next delayed message is due, in seconds since the epoch; "0": there is none
--   waiting   how many messages wait on this shard
--   now       the time, in seconds since the epoch
--
-- reads and writes   c m w l b lw d h subs s g t of groups channels bell waiting
-- writes             x r processes o

local RECEIVER, NUMBER, AGAIN, PROCESS, RULES, SEGMENTS, DONE, FINISHED, GONE, RETURNED_FINISHED,
  RETURNED_GONE, RETURNED, CHANNELS, LIMIT, WAKE_BELOW, HOLD, EARLIER, EARLIER_CHANNELS,
  SUBSCRIPTION, PLACE, REACH, LANED, TURN, SLEEPS, FULL = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
  17, 18, 19, 20, 21, 22, 23, 24, 25
local MAX_SIZE = 4 * 1024 * 1024
local MAX_PROMOTED = 500
local ALIVE = 6  -- seconds for which a process counts as alive after it was heard of
local KEPT = 600  -- seconds for which a reply can be asked for again

local request = unpack_(ARGV[1])
local receiver = request[RECEIVER]
local next_argument = 1
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument]
end

if request[FULL] then insist() end

if request[AGAIN] then
  local last = call('GET', P .. 'x:' .. receiver)
  last = last and unpack_(last)
  if last and last[1] == request[NUMBER] then
    local taken = last[4]
    for _, first in ipairs(last[5]) do
      local bundle = call('HGET', P .. 'h:' .. receiver, first)
      if bundle then taken[#taken + 1] = envelopes_of(bundle) end
    end
    return {taken, last[2], last[3], finish(), time_of(now)}
  end
end

if request[PROCESS] ~= '' then
  call('SADD', P .. 'r:' .. request[PROCESS], receiver)
  call('ZADD', P .. 'processes', now + ALIVE, request[PROCESS])
end

-- Operations ---------------------------------------------------------------------------------

local refused, closed = {}, {}
local sender = request[WAKE_BELOW] > 0 and receiver or nil

local function refuse(segment, index, record, why, turn)
  local n = #refused
  refused[n + 1], refused[n + 2], refused[n + 3] = segment, index, why
  record.refused = record.refused + 1
  record.changed, record.all = true, true
  if turn ~= '' then closed[turn:sub(17)] = true end
end

local rules = request[RULES]

-- Brings all lanes in lane, id, lane, id… into use, if none of them is.
local function begin_lanes(pairs_)
  local names, n = {}, 0
  for i = 1, #pairs_, 2 do
    n = n + 1
    names[n] = pairs_[i]
  end
  local found = call('HMGET', LANES, unpack(names))
  for i = 1, n do
    if found[i] then return false end
  end
  call('HSET', LANES, unpack(pairs_))
  return true
end

-- A bundle for one channel. Where it finds room as it is, it is not opened.
local function sends(number, segment)
  local _, rule, count, lanes = unpack(segment)
  local bundle, record = argument(), channel(rules[rule])
  if record.pending + count <= rules[rule + 1] and next(closed) == nil
      and (not lanes[1] or begin_lanes(lanes)) then
    flush(record)
    call('RPUSH', P .. 'm:' .. record.address, bundle)
    record.pending = record.pending + count
    accept(record, count)
    return ring(record, count)
  end
  local items = untie(bundle)
  for i = 1, #items, 2 do
    local envelope, turn = items[i], items[i + 1]
    local why = turn ~= '' and closed[turn:sub(17)] and 'lane'
      or place(record, envelope, turn, rules[rule + 1], rules[rule + 2], sender)
    if why then
      refuse(number, (i - 1) / 2, record, why, turn)
    else
      accept(record, 1)
    end
  end
end

local function delayed(number, segment)
  local _, rule, turn, due, id = unpack(segment)
  local record, envelope = channel(rules[rule]), argument()
  if turn ~= '' and closed[turn:sub(17)] then return refuse(number, 0, record, 'lane', turn) end
  call('ZADD', P .. 'd', due, id .. pack({record.address, turn, envelope}))
  accept(record, 1)
  ring(record, EVERY)
end

local function notify(member)
  if member:find('!', 1, true) then enqueue(channel(address_of(member)), argument(), '') end
end

local function group_add(_, segment)
  local _, group, member, expires, rule = unpack(segment)
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

local function group_discard(_, segment)
  local _, group, member = unpack(segment)
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

local function group_send(_, segment)
  local _, group, id, values = unpack(segment)
  local core = argument()
  local found = call('HGETALL', P .. 't:' .. group)
  local group_end = pack(group) .. '\1'
  local high = '\207' .. struct.pack('>I4', tonumber(id:sub(1, 8), 16))
  local ends = {}  -- by the seconds that a message may wait
  for i = 1, #found, 2 do
    local address, target = found[i], unpack_(found[i + 1])
    if target[2] > now then
      local rule = target[3]
      local to_process = address:sub(-1) == '!'
      local lane, turn, low = '', '', (i - 1) / 2
      if not to_process then
        lane, turn = lane_of(rule, values)
        if turn ~= '' then turn = id:sub(1, 8) .. string.format('%08x', low) .. turn end
      end
      local expiry = rule[3]
      ends[expiry] = ends[expiry] or '\153\203' .. struct.pack('>d', now + expiry)
      local envelope = ends[expiry] .. (to_process and '\1' or '\0') .. high
        .. struct.pack('>I4', low) .. pack(address) .. core .. pack(lane) .. group_end
      local record = channel(address)
      if place(record, envelope, turn, rule[1], rule[2], nil) then
        drop(record, 'full')
      else
        accept(record, 1)
      end
    end
  end
end

local function leave_all(_, segment)
  local member = segment[2]
  if leave(member) then
    notify(member)
  elseif member:find('!', 1, true) then
    argument()
  end
end

-- What was taken and not held, by somebody who is gone.
local function restore(_, segment)
  local items = {}
  for i = 2, #segment do
    items[#items + 1] = argument()
    items[#items + 1] = segment[i]
    if segment[i] ~= '' then begin_lane(segment[i]) end
  end
  put_back(items)
end

local function count_dropped(_, segment)
  local _, address, reason, number = unpack(segment)
  drop(channel(address), reason, number)
end

local operations = {[0] = sends, group_add, group_discard, group_send, delayed, leave_all, restore,
                    count_dropped}

-- What is held -------------------------------------------------------------------------------

local held = P .. 'h:' .. receiver

local function return_all(places)
  local bundles, items = {}, {}
  for i = 1, #places, 2 do
    local first, index = places[i], places[i + 1]
    if bundles[first] == nil then
      local bundle = call('HGET', held, first)
      bundles[first] = bundle and untie(bundle) or false
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
  if finished[1] then call('HDEL', held, unpack(finished)) end
  if gone[1] then call('HSET', held, unpack(gone)) end
end

-- Lets the lanes of lane, id, lane, id… go on.
local function finish_turns(pairs_)
  for from = 1, #pairs_, 4000 do
    local names, gone = {}, {}
    local last = math.min(from + 3999, #pairs_)
    for i = from, last, 2 do names[#names + 1] = pairs_[i] end
    local found = call('HMGET', LANES, unpack(names))
    local others = {}
    for i, lane in ipairs(names) do
      local id = pairs_[from + 2 * i - 1]
      if found[i] == id then
        gone[#gone + 1] = lane
      elseif found[i] then
        others[#others + 1] = id .. lane
      end
    end
    if gone[1] then call('HDEL', LANES, unpack(gone)) end
    for _, turn in ipairs(others) do release(turn) end
  end
end

-- Taking -------------------------------------------------------------------------------------

local taken, size, count, kept, released = {}, 0, 0, {}, {}
local next_place = request[PLACE]

-- Takes the messages of an opened bundle, up to `left`; returns how many, and puts the rest back.
local function take_items(key, items, left)
  local n = #items
  if not is_notice(items[1]) and n > 2 * left then
    call('LPUSH', key, tie({unpack(items, 2 * left + 1, n)}))
    items = {unpack(items, 1, 2 * left)}
  end
  return tie(items)
end

local function take_from(name, limit)
  local key = P .. 'm:' .. name
  local record, left = nil, limit
  local keeps = request[HOLD] and not name:find('[!?]')
  while left > 0 and size < MAX_SIZE do
    local bundle = call('LPOP', key)
    if not bundle then break end
    record = record or channel(name)
    local notice, number, expires, length = struct.unpack(HEAD, bundle)
    if expires <= now or (notice == 0 and number > left) then
      local items = without_expired(record, untie(bundle))
      bundle = items and take_items(key, items, left)
      if bundle then notice, number, expires, length = struct.unpack(HEAD, bundle) end
    end
    if bundle then
      taken[#taken + 1] = bundle:sub(HEAD_SIZE + length + 1)
      size = size + #bundle
      if notice == 0 then
        left = left - number
        waiting = waiting - number
        record.pending = record.pending - number
        if keeps then
          kept[#kept + 1] = next_place
          kept[#kept + 1] = bundle
          next_place = next_place + number
        elseif request[LANED] then
          local items = unpack_(bundle:sub(HEAD_SIZE + 1, HEAD_SIZE + length))
          for i = 2, #items, 2 do
            if items[i] ~= '' then released[#released + 1] = items[i] end
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
  if kept[1] then
    if request[REACH] > 0 then
      kept[#kept + 1] = 'b'
      kept[#kept + 1] = request[PLACE] + request[REACH] - 1
    end
    call('HSET', held, unpack(kept))
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
      record.changed, record.all = true, true
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

for number, segment in ipairs(request[SEGMENTS]) do operations[segment[1]](number, segment) end
if request[RETURNED][1] then return_all(request[RETURNED]) end
if refused[1] then
  forget(request[RETURNED_FINISHED], request[RETURNED_GONE])
else
  if request[DONE][1] then finish_turns(request[DONE]) end
  forget(request[FINISHED], request[GONE])
end
local due = 0
if request[LIMIT] > 0 then
  due = promote(MAX_PROMOTED)
  take(request[CHANNELS], request[LIMIT])
  keep()
end
if request[CHANNELS][1] or request[EARLIER] ~= '' then
  local looked = count < request[LIMIT] and (request[HOLD] or not request[LANED])
  local wanted = request[LIMIT] > 0 and count < request[WAKE_BELOW]
  register(wanted or request[SLEEPS], looked)
end
local left = finish()

local refusals = refused[1] and pack(refused) or ''
due = tostring(due)
if taken[1] or request[SEGMENTS][1] or request[DONE][1] or request[RETURNED][1] then
  local places = {}
  for i = 1, #kept, 2 do
    if kept[i] ~= 'b' then places[#places + 1] = kept[i] end
  end
  local loose = places[1] and {} or taken
  call('SET', P .. 'x:' .. receiver, pack({request[NUMBER], refusals, due, loose, places}), 'EX', KEPT)
end
return {taken, refusals, due, left, time_of(now)}
