-- exchange(P; request, bundles and envelopes…) -> taken, refused, due, waiting, now
--
-- One receiver's exchange on one shard: see `Receiver.exchange`.
--
--   request   msgpack array: the fields of `wire.Request`, in their order
--   taken     bundles
--   refused   msgpack array: segment, place in it, reason, segment, place in it, reason…
--   due       when the next delayed message is due, in seconds since the epoch; "0": there is none
--   waiting   how many messages wait on this shard
--   now       the time, in seconds since the epoch
--
-- Errors, and nothing is done: "LATE" when the receiver has asked for more since, or for this again;
-- "UNKNOWN" when it has left, or was thought dead: who lives asks again, and names its process.
--
-- reads and writes   c m w l b lw d h x subs s g t of groups channels bell waiting
-- writes             r processes o

local RECEIVER, NUMBER, AGAIN, PROCESS, RULES, SEGMENTS, DONE, FINISHED, GONE, RETURNED_FINISHED,
  RETURNED_GONE, RETURNED, CHANNELS, LIMIT, WAKE_BELOW, HOLD, EARLIER, EARLIER_CHANNELS,
  SUBSCRIPTION, PLACE, REACH, LANED, TURN, SLEEPS, FULL =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25
local MAX_SIZE = 4 * 1024 * 1024
local MAX_PROMOTED = 500
local ALIVE = 6  -- seconds for which a process counts as alive after it was heard of
local LANES = P .. 'l'

local request = unpack_(ARGV[1])
local receiver, rules = request[RECEIVER], request[RULES]
local held = P .. 'h:' .. receiver

-- What may have been done already has to be written down, whatever becomes of it.
if request[FULL] or request[AGAIN] then insist() end

-- What was sent on a connection that was given up may come after what was sent on the next one, or
-- when the receiver is gone.
local last_key = P .. 'x:' .. receiver
local last, gone = call('GETRANGE', last_key, LAST_AT, LAST_AT + LAST_SIZE - 1), 0
if last ~= '' then
  local number
  number, gone = struct.unpack(LAST, last)
  if number == request[NUMBER] and request[AGAIN] then
    local _, refusals, due, taken, held_at = unpack(unpack_(call('GET', last_key)))
    for _, first in ipairs(held_at) do
      local bundle = call('HGET', held, first)
      if bundle then taken[#taken + 1] = bundle end
    end
    return {taken, refusals, due, finish(), time_of(now)}
  end
  if number >= request[NUMBER] then
    return redis.error_reply('LATE more was asked since, on another connection')
  end
  if gone == 1 and request[PROCESS] == '' then
    return redis.error_reply('UNKNOWN receiver: it has left, or was thought dead')
  end
end

local function own(prefix)
  local record = channel(prefix)
  record.owner = receiver:match('^(.*)%.')
  record.changed, record.remade = true, true
  call('SADD', P .. 'o:' .. record.owner, prefix)
end

if request[PROCESS] ~= '' then
  gone = 0
  call('SADD', P .. 'r:' .. request[PROCESS], receiver)
  call('ZADD', P .. 'processes', now + ALIVE, request[PROCESS])
  for _, name in ipairs(request[CHANNELS]) do
    if name:sub(-1) == '!' then own(name) end
  end
end

local refused, closed = {}, {}
local next_argument = 1
local function argument()
  next_argument = next_argument + 1
  return ARGV[next_argument]
end

local made_others
local function others()
  made_others = made_others or make_others(
    rules, argument, refused, closed, request[WAKE_BELOW] > 0 and receiver or nil, held, request[FULL])
  return made_others
end

-- Operations ---------------------------------------------------------------------------------

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

for number, segment in ipairs(request[SEGMENTS]) do
  if segment[1] > 0 then
    others().operations[segment[1]](number, segment)
  else
    -- A bundle for one channel. Where it finds room as it is, it is not opened.
    local rule, size, lanes = segment[2], segment[3], segment[4]
    local bundle, record = argument(), channel(rules[rule])
    if record.pending + size <= rules[rule + 1] and not closed.any
        and (not lanes[1] or begin_lanes(lanes)) then
      flush(record)
      call('RPUSH', P .. 'm:' .. record.address, bundle)
      record.pending = record.pending + size
      accept(record, size)
      ring(record, size)
    else
      others().send_each(number, rule, bundle)
    end
  end
end

-- What is held -------------------------------------------------------------------------------

-- Calls a command with all of a list, of which Lua's stack has room for some thousands at a time.
local function call_with(command, key, list)
  for from = 1, #list, 4000 do
    call(command, key, unpack(list, from, math.min(from + 3999, #list)))
  end
end

local function forget(finished, gone)
  if finished[1] then call_with('HDEL', held, finished) end
  if gone[1] then call_with('HSET', held, gone) end
end

-- Lets the lanes of lane, id, lane, id… go on.
local function finish_turns(pairs_)
  for from = 1, #pairs_, 4000 do
    local names, gone, behind, n = {}, {}, {}, 0
    local last = math.min(from + 3999, #pairs_)
    for i = from, last, 2 do
      n = n + 1
      names[n] = pairs_[i]
    end
    local found = call('HMGET', LANES, unpack(names))
    for i = 1, n do
      local id = pairs_[from + 2 * i - 1]
      if found[i] == id then
        gone[#gone + 1] = names[i]
      elseif found[i] then
        behind[#behind + 1] = id .. names[i]
      end
    end
    if gone[1] then call('HDEL', LANES, unpack(gone)) end
    if behind[1] then others().release_all(behind) end
  end
end

if request[RETURNED][1] then others().return_all(request[RETURNED]) end
if refused[1] then
  forget(request[RETURNED_FINISHED], request[RETURNED_GONE])
else
  if request[DONE][1] then finish_turns(request[DONE]) end
  forget(request[FINISHED], request[GONE])
end

-- Taking -------------------------------------------------------------------------------------

local taken, size, count, kept, loose, released = {}, 0, 0, {}, {}, {}
local next_place = request[PLACE]

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
      bundle = others().open(record, key, bundle, left)
      if bundle then notice, number, expires, length = struct.unpack(HEAD, bundle) end
    end
    if bundle then
      taken[#taken + 1] = bundle
      if not keeps then loose[#loose + 1] = taken[#taken] end
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
    if record.blocked ~= '' then queues().unblock(record) end
  end
  count = count + limit - left
  return limit - left
end

-- How many of these channels have something in their queue.
local function count_full(names)
  local keys, full = {}, 0
  for i = 1, #names do keys[i] = P .. 'm:' .. names[i] end
  for from = 1, #keys, 4000 do
    full = full + call('EXISTS', unpack(keys, from, math.min(from + 3999, #keys)))
  end
  return full
end

-- A fair share of each channel first, then what is left.
local function take_round(names, limit)
  if not names[2] then return take_from(names[1], limit) end
  local full, found, left = count_full(names), {}, limit
  for i = 1, #names do
    if #found == full then break end
    local name = names[(i + request[TURN]) % #names + 1]
    if call('EXISTS', P .. 'm:' .. name) == 1 then found[#found + 1] = name end
  end
  if found[2] then
    local share = math.max(1, math.floor(limit / #found))
    for _, name in ipairs(found) do left = left - take_from(name, math.min(share, left)) end
  end
  for _, name in ipairs(found) do left = left - take_from(name, left) end
end

local function flush_all(names)
  local any = false
  for _, name in ipairs(names) do
    if channels[name] and channels[name].fresh then
      flush(channels[name])
      any = true
    end
  end
  return any
end

local due, names = 0, request[CHANNELS]
if request[LIMIT] > 0 then
  local first = call('ZRANGE', P .. 'd', 0, 0, 'WITHSCORES')[2]
  if first then due = tonumber(first) > now and first or queues().promote(MAX_PROMOTED) end
  flush_all(names)
  take_round(names, request[LIMIT])
  -- Lanes may have gone on behind messages that had expired.
  while count < request[LIMIT] and size < MAX_SIZE and flush_all(names) do
    take_round(names, request[LIMIT] - count)
  end
  if kept[1] then
    if request[REACH] > 0 then
      kept[#kept + 1] = 'b'
      kept[#kept + 1] = request[PLACE] + request[REACH] - 1
    end
    call_with('HSET', held, kept)
  end
  if released[1] then others().release_all(released) end
end

-- Waiting ------------------------------------------------------------------------------------

local function pass_on(names)
  flush_all(names)
  if count_full(names) == 0 then return end
  for _, name in ipairs(names) do
    if call('EXISTS', P .. 'm:' .. name) == 1 then ring(channel(name), 1) end
  end
end

local function subscribe(name)
  if call('HEXISTS', P .. 'subs', name) == 0 then
    call('HSET', P .. 'subs', name, pack(names))
    for _, each in ipairs(names) do
      local record = channel(each)
      record.subs = record.subs .. ' ' .. name
      record.changed, record.remade = true, true
      if each:sub(-1) == '!' then own(each) end
    end
  end
  call('ZADD', P .. 's:' .. name, 'NX', now * 1000000, receiver)
end

local earlier, name = request[EARLIER], request[SUBSCRIPTION]
if names[1] or earlier ~= '' then
  local wanted = request[SLEEPS] or (request[LIMIT] > 0 and count < request[WAKE_BELOW])
  if earlier ~= '' and (earlier ~= name or not wanted) then
    call('ZREM', P .. 's:' .. earlier, receiver)
    if earlier ~= name then pass_on(request[EARLIER_CHANNELS]) end
  end
  if wanted then subscribe(name) end
  -- Large messages may have been left, and lanes that were let go without being held may have
  -- brought new ones.
  local looked = count < request[LIMIT] and size < MAX_SIZE
    and (request[HOLD] or not request[LANED])
  if not looked then pass_on(names) end
end
local left = finish()

local refusals = refused[1] and pack(refused) or ''
due = tostring(due)
if request[AGAIN] or request[PROCESS] ~= '' or taken[1] or request[SEGMENTS][1]
    or request[DONE][1] or request[RETURNED][1] then
  local places = {}
  for i = 1, #kept, 2 do
    if kept[i] ~= 'b' then places[#places + 1] = kept[i] end
  end
  local reply = {struct.pack(LAST, request[NUMBER], gone), refusals, due, loose, places}
  call('SET', last_key, pack(reply), 'EX', KEPT)
end
return {taken, refusals, due, left, time_of(now)}
