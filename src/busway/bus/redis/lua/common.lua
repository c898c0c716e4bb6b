-- What the scripts share: records, lanes, queues, groups, and whom to wake. Put before each of them.
--
-- Everything that is on one shard is below one prefix, P = KEYS[1], for example "busway:{0}:".
--
--   P epoch            string  random; a new one says that what was here before is lost
--   P channels         set     addresses that have a record
--   P c:ADDRESS        hash    pending accepted refused used; subs owner blocked; dropped:REASON
--   P m:ADDRESS        list    bundles that wait in a channel's queue
--   P w:ADDRESS        set     receivers that wait for room in it
--   P l                hash    lane in use -> id of the message in front, how many are in b in
--                              decimal, and "!" when there is lw
--   P b:LANE           list    entries that wait behind it
--   P lw:LANE          set     receivers that wait for room in it
--   P d                zset    entries that are delayed, by when they are due
--   P h:RECEIVER       hash    what it holds: place of the first -> bundle; "x"..place -> indexes in
--                              that bundle which are done; "b" -> the place up to which it has begun;
--                              "w" -> how many it was handed and has not said that they have come
--   P x:RECEIVER       string  msgpack array about its last request: its number (a double) and 1 when
--                              the receiver is gone, else 0 (a byte), both in one string of nine; and
--                              the reply, where it says anything: what was refused, when the next is
--                              due, bundles that were taken and not held, places of those that are held
--   P subs             hash    subscription -> its channels
--   P s:SUBSCRIPTION   zset    receivers that sleep on it, by since when
--   P a:RECEIVER       string  what it may be handed while it sleeps: the number of the request that
--                              said so (a double), how much more (four bytes), a place (a double) and
--                              how many messages count as begun (four bytes). For what is done on
--                              delivery the latter is -1, and the place is the number of the bundle
--                              that it was handed last, from 1; else that of the next message
--   P p:RECEIVER       list    bundles that it was handed, which are done on delivery, and of which it
--                              has not said yet that they have come
--   P processes        zset    processes, by when they are dead unless they are heard of
--   P r:PROCESS        set     its receivers
--   P o:PROCESS        set     prefixes that it reads
--   P groups           zset    groups, by when the first of their memberships may end
--   P g:GROUP          zset    members, by when their membership ends
--   P t:GROUP          hash    target: address -> members, when the last ends, and its rules
--   P of:ADDRESS       zset    "CHANNEL NUL GROUP": the groups of its channels
--   P past             hash    counts of channels whose record is gone
--   P waiting          string  how many messages wait anywhere: accepted, not yet taken or dropped.
--                              Those that were handed over count until their receiver says that they
--                              have come: of what is on its way when the server dies nobody knows
--   P lost             hash    epoch of data that was lost -> when it was last seen, and how many
--                              messages waited in it then
--   P away             string  since when no process at all was heard of
--
-- ADDRESS is a channel's name, or its prefix up to "!". An envelope is a msgpack array that begins
-- with when it expires (a double), its kind (one byte), its id, its channel and when it was sent. A
-- turn is the id (16 hexadecimal digits) and lane of a message, or empty.
--
-- A bundle is a head (1 when it is a notice, else 0: one byte; count of messages: two; when the first
-- expires: a double; length of the table: four), a table (msgpack array of length of the envelope,
-- turn, length, turn…) and a msgpack array of envelopes. So most bundles go through here unopened.
-- An entry is a msgpack array of address, turn, envelope.

-- Each run of a script makes all its functions, and an upvalue of each local that they use: that costs
-- more than many a function takes to run. So there are few outside of `queues()`, which makes the others
-- when they are needed; and functions say `redis.call` and `KEYS[1]`, which are no upvalues.

local P = KEYS[1]
local call = redis.call
local pack, unpack_ = cmsgpack.pack, cmsgpack.unpack

-- Constants for commands are text: printing numbers is slow on some servers.
local LAST, LAST_FROM, LAST_TO = '>dB', '2', '10'  -- behind the heads of the array and of the string
local KEPT = '600'  -- seconds for which a reply can be asked for again

-- How many messages more wait at the end of this script.
local waiting = 0

local time = call('TIME')
local now = time[1] + time[2] / 1000000

-- Lets the script go on on a server whose memory is in use: it lets go on what has begun to write.
local function insist() redis.call('DEL', KEYS[1] .. 'nothing') end

-- Channels -----------------------------------------------------------------------------------

local channels = {}

local function channel(address)
  local record = channels[address]
  if not record then
    local found = redis.call('HMGET', KEYS[1] .. 'c:' .. address, 'pending', 'accepted', 'subs',
                             'owner', 'blocked')
    record = {address = address, pending = tonumber(found[1] or 0), accepted = found[2] or 0,
              subs = found[3] or '', owner = found[4] or '', blocked = found[5] or '',
              new = not found[1]}
    channels[address] = record
  end
  return record
end

-- Wakes up to `count` of the longest sleepers on a channel.
local function ring(record, count)
  if record.subs == '' then return end
  local call, P = redis.call, KEYS[1]
  for name in record.subs:gmatch('%S+') do
    while count > 0 do
      local wanted = count
      local woken = call('ZPOPMIN', P .. 's:' .. name, wanted)
      for i = 1, #woken, 2 do
        if call('PUBLISH', P .. 'bell:' .. woken[i], '') > 0 then count = count - 1 end
      end
      if #woken < 2 * wanted then break end
    end
    if count <= 0 then return end
  end
end

-- Hands a bundle of `size` messages, none a notice, to the longest sleeper on a channel, along with the
-- ring, as if it had taken it. Says whether it could: not all want that, or so much.
local function hand_over(record, bundle, size)
  local call, P, ORDER = redis.call, KEYS[1], '>dI4di4'
  for name in record.subs:gmatch('%S+') do
    local sleepers = P .. 's:' .. name
    local found = call('ZRANGE', sleepers, '0', '0', 'WITHSCORES')
    local receiver = found[1]
    local key = receiver and P .. 'a:' .. receiver
    local order = key and call('GET', key)
    if order then
      local number, credit, place, reach = struct.unpack(ORDER, order)
      credit = credit - math.max(size, math.ceil(#bundle / 4096))
      if credit < 0 then return false end
      local is_held, bell = reach >= 0, P .. 'bell:' .. receiver
      -- What a server without memory refuses must not have been published.
      if is_held then
        key = P .. 'h:' .. receiver
        call('HSET', key, place, bundle, 'w', size)
        call('ZREM', sleepers, receiver)
        -- One that was not heard of for a while may be cut off: it has to ask before it begins.
        if tonumber(found[2]) < (now - 1) * 1000000 then reach = 0 end
      else
        place = place + 1
        call('RPUSH', P .. 'p:' .. receiver, bundle)
      end
      order = struct.pack(ORDER, number, credit, place, reach)
      -- Apart: a string made of both would be hashed, byte for byte.
      if call('PUBLISH', bell, order) > 0 then
        call('PUBLISH', bell, bundle)
        if not is_held then
          call('SET', key, order)
        elseif reach > 0 then
          call('HSET', key, 'b', place + math.min(reach, size) - 1)
        end
        return true
      end
      -- Nobody was there.
      if is_held then call('HDEL', key, place, 'w') else call('RPOP', P .. 'p:' .. receiver) end
    end
    if receiver then return false end
  end
  return false
end

-- What `queues()` has made, once it was needed.
local Q

-- Writes what has changed; returns how many messages wait now. Of a record that was there before
-- mostly only counts have.
local function finish()
  local call, P = redis.call, KEYS[1]
  for address, record in pairs(channels) do
    if record.fresh then Q.flush(record) end
    if record.new and record.changed then
      call('SADD', P .. 'channels', address)
      record.remade = true
    end
    if record.remade then
      call('HSET', P .. 'c:' .. address, 'pending', record.pending, 'accepted', record.accepted,
           'used', time[1], 'subs', record.subs, 'owner', record.owner, 'blocked', record.blocked)
    elseif record.changed then
      call('HSET', P .. 'c:' .. address, 'pending', record.pending, 'accepted', record.accepted,
           'used', time[1])
    end
  end
  if waiting == 0 then return tonumber(call('GET', P .. 'waiting') or 0) end
  local left = call('INCRBY', P .. 'waiting', waiting)
  if left < 0 then call('SET', P .. 'waiting', 0) end  -- all was flushed since
  return math.max(left, 0)
end
