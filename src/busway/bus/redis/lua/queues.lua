-- How messages are placed, put back, dropped and let go, one by one: what most exchanges do without.
-- Put behind `common`.

local function queues()
  if Q then return Q end
  local P, call, pack, unpack_ = KEYS[1], redis.call, cmsgpack.pack, cmsgpack.unpack
  local GROUP_MESSAGE = 1
  local EVERY = 1000000000
  local ARRAY_SIZE = 3
  local BUNDLE_LENGTH = 128  -- messages and turns: as many as a worker takes at once
  local BUNDLE_SIZE = 32768  -- bytes after which a bundle takes no further message
  local HEAD, HEAD_SIZE = '>BHdI4', 15

  local function expires_of(envelope) return (struct.unpack('>d', envelope, 3)) end
  local function is_notice(envelope) return envelope:byte(11) > GROUP_MESSAGE end
  -- An envelope's channel, and when it was sent. Only its head is read: messages may hold anything.
  local function head_of(envelope)
    local _, _, _, _, channel, sent = cmsgpack.unpack_limit(envelope, 5, 1)
    return channel, sent
  end
  local function address_of(channel)
    local cut = channel:find('!', 1, true)
    return cut and channel:sub(1, cut) or channel
  end

  -- Bundles ------------------------------------------------------------------------------------

  -- Returns envelope, turn, envelope, turn… as a bundle.
  local function tie(items)
    local sizes, envelopes = {}, {}
    for i = 1, #items, 2 do
      sizes[i], sizes[i + 1] = #items[i], items[i + 1]
      envelopes[#envelopes + 1] = items[i]
    end
    sizes = pack(sizes)
    local first, count = items[1], #envelopes
    return struct.pack(HEAD, is_notice(first) and 1 or 0, count, expires_of(first), #sizes) .. sizes
      .. '\220' .. struct.pack('>H', count) .. table.concat(envelopes)
  end

  local function untie(bundle)
    local _, _, _, length = struct.unpack(HEAD, bundle)
    local items = unpack_(bundle:sub(HEAD_SIZE + 1, HEAD_SIZE + length))
    local offset = HEAD_SIZE + length + ARRAY_SIZE
    for i = 1, #items, 2 do
      local size = items[i]
      items[i] = bundle:sub(offset + 1, offset + size)
      offset = offset + size
    end
    return items
  end

  -- Channels ---------------------------------------------------------------------------------

  local function drop(record, reason, count)
    call('HINCRBY', P .. 'c:' .. record.address, 'dropped:' .. reason, count or 1)
    record.changed = true
  end

  local function accept(record, count)
    record.accepted = record.accepted + count
    waiting = waiting + count
    record.changed = true
  end

  local function wake(receiver) return call('PUBLISH', P .. 'bell:' .. receiver, '') > 0 end

  local function wake_all(key)
    for _, receiver in ipairs(call('SMEMBERS', key)) do wake(receiver) end
    call('DEL', key)
  end

  local function unblock(record)
    if record.blocked ~= '' then
      record.blocked = ''
      record.changed, record.remade = true, true
      wake_all(P .. 'w:' .. record.address)
    end
  end

  -- Writes what was put at the end of a channel's queue, and wakes who waits for it.
  local function flush(record)
    local fresh = record.fresh
    if not fresh then return end
    local bundle, size = tie(fresh), #fresh / 2
    record.fresh, record.size = nil, nil
    local able = record.subs ~= '' and not is_notice(fresh[1])
    for i = 1, #fresh, 2 do able = able and expires_of(fresh[i]) > now end
    if able and hand_over(record, bundle, size) then
      record.pending = record.pending - size
      unblock(record)
      return
    end
    call('RPUSH', P .. 'm:' .. record.address, bundle)
    ring(record, size)
  end

  -- Does so for channels of these names; says whether there was anything.
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

  local function enqueue(record, envelope, turn)
    local fresh = record.fresh or {}
    local n = #fresh
    local notice = is_notice(envelope)
    -- A notice has a bundle for itself.
    if n > 0 and (notice or n >= BUNDLE_LENGTH or record.size > BUNDLE_SIZE
                  or is_notice(fresh[n - 1])) then
      flush(record)
      fresh, n = {}, 0
    end
    record.fresh = fresh
    fresh[n + 1], fresh[n + 2] = envelope, turn
    record.size = (record.size or 0) + #envelope
    if not notice then record.pending = record.pending + 1 end
    record.changed = true
  end

  -- Takes note that the process of a receiver reads a prefix.
  local function own(prefix, receiver)
    local record = channel(prefix)
    record.owner = receiver:match('^(.*)%.')
    record.changed, record.remade = true, true
    call('SADD', P .. 'o:' .. record.owner, prefix)
  end

  -- Lanes --------------------------------------------------------------------------------------

  local LANES = P .. 'l'

  -- Returns the id of the message in front, how many are behind it, and whether somebody waits.
  local function parse_lane(state)
    if #state == 16 then return state, 0, false end
    return state:sub(1, 16), tonumber(state:match('%d*', 17)) or 0, state:sub(-1) == '!'
  end

  local function write_lane(lane, id, behind, awaited)
    call('HSET', LANES, lane, id .. (behind > 0 and behind or '') .. (awaited and '!' or ''))
  end

  -- Brings the lane of a message into use; false when it is in use.
  local function begin_lane(turn)
    return call('HSETNX', LANES, turn:sub(17), turn:sub(1, 16)) == 1
  end

  local leave, release

  -- Counts a message that expired; where nobody reads, its channel leaves its groups.
  local function expire(record, envelope, turn)
    if not is_notice(envelope) then
      record.pending = record.pending - 1
      waiting = waiting - 1
      drop(record, 'expired')
      unblock(record)
    end
    if record.owner == '' then leave((head_of(envelope))) end
    if turn ~= '' then release(turn) end
  end

  -- Lets a lane go on after a message was handled: the next one joins its queue.
  function release(turn)
    local lane = turn:sub(17)
    local state = call('HGET', LANES, lane)
    if not state then return end
    local id, behind, awaited = parse_lane(state)
    if id ~= turn:sub(1, 16) then return end
    if awaited then wake_all(P .. 'lw:' .. lane) end
    while behind > 0 do
      local entry = unpack_(call('LPOP', P .. 'b:' .. lane))
      local record = channel(entry[1])
      behind = behind - 1
      if expires_of(entry[3]) > now then
        write_lane(lane, entry[2]:sub(1, 16), behind, false)
        return enqueue(record, entry[3], entry[2])
      end
      waiting = waiting - 1
      drop(record, 'expired')
    end
    call('HDEL', LANES, lane)
  end

  -- Does so for all messages of a bundle that have lanes.
  local function release_all(bundle)
    local _, _, _, length = struct.unpack(HEAD, bundle)
    local items = unpack_(bundle:sub(HEAD_SIZE + 1, HEAD_SIZE + length))
    for i = 2, #items, 2 do
      if items[i] ~= '' then release(items[i]) end
    end
  end

  -- Queues -------------------------------------------------------------------------------------

  -- Drops the messages of a bundle that have expired; returns what is left, or nil.
  -- Notices to a living owner have to stay.
  local function without_expired(record, items)
    if expires_of(items[1]) > now or (is_notice(items[1]) and record.owner ~= '') then
      return items
    end
    local left, n = {}, 0
    for i = 1, #items, 2 do
      if expires_of(items[i]) > now then
        left[n + 1], left[n + 2] = items[i], items[i + 1]
        n = n + 2
      else
        expire(record, items[i], items[i + 1])
      end
    end
    record.changed = true
    return n > 0 and left or nil
  end

  -- Drops what has expired at the head of a queue.
  local function purge(record)
    local key = P .. 'm:' .. record.address
    while true do
      local bundle = call('LINDEX', key, 0)
      if not bundle then return end
      local items = untie(bundle)
      local left = without_expired(record, items)
      if left == items then return end
      call('LPOP', key)
      if left then
        call('LPUSH', key, tie(left))
        return
      end
    end
  end

  -- Returns what is left of a bundle when what has expired and what is more than `left` is not taken.
  local function open(record, key, bundle, left)
    local items = without_expired(record, untie(bundle))
    if not items then return nil end
    local n = #items
    if not is_notice(items[1]) and n > 2 * left then
      call('LPUSH', key, tie({unpack(items, 2 * left + 1, n)}))
      items = {unpack(items, 1, 2 * left)}
    end
    return tie(items)
  end

  -- Puts a message that is due into its queue, or behind its lane. Returns why when it has no room.
  local function place(record, envelope, turn, capacity, lane_capacity, sender)
    local full = record.pending >= capacity
    if full and not record.purged then
      record.purged = true
      purge(record)
      full = record.pending >= capacity
    end
    if not full and (turn == '' or begin_lane(turn)) then
      enqueue(record, envelope, turn)
      return nil
    end
    local lane = turn:sub(17)
    local state = turn ~= '' and call('HGET', LANES, lane)
    if not state then
      if sender then
        call('SADD', P .. 'w:' .. record.address, sender)
        record.blocked = '1'
        record.changed, record.remade = true, true
      end
      return 'capacity'
    end
    local id, behind, awaited = parse_lane(state)
    if behind < lane_capacity then
      call('RPUSH', P .. 'b:' .. lane, pack({record.address, turn, envelope}))
      write_lane(lane, id, behind + 1, awaited)
      return nil
    end
    if sender then
      call('SADD', P .. 'lw:' .. lane, sender)
      if not awaited then write_lane(lane, id, behind, true) end
    end
    return 'lane'
  end

  -- Sends delayed messages that are due; returns when the next one is, or "0".
  local function promote(limit)
    local key = P .. 'd'
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if #first == 0 then return '0' end
    if tonumber(first[2]) > now then return first[2] end
    for _, member in ipairs(call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, limit)) do
      call('ZREM', key, member)
      local entry = unpack_(member:sub(17))
      place(channel(entry[1]), entry[3], entry[2], EVERY, EVERY, nil)
    end
    first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    return first[2] or '0'
  end

  -- Puts messages in front of their queue, in their order; they keep their lanes.
  local function put_back(items)
    for i = #items - 1, 1, -2 do
      local envelope, turn = items[i], items[i + 1]
      local record = channel(address_of((head_of(envelope))))
      flush(record)
      call('LPUSH', P .. 'm:' .. record.address, tie({envelope, turn}))
      record.pending = record.pending + 1
      waiting = waiting + 1
      record.changed = true
      ring(record, 1)
    end
  end

  -- Puts back what a receiver holds: the first place of its bundle and index in it, of each message.
  local function return_all(receiver, places)
    local key, bundles, items = P .. 'h:' .. receiver, {}, {}
    for i = 1, #places, 2 do
      local first, index = places[i], places[i + 1]
      if bundles[first] == nil then
        local bundle = call('HGET', key, first)
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

  -- Groups -------------------------------------------------------------------------------------

  local function forget_if_empty(group)
    if call('EXISTS', P .. 't:' .. group) == 0 then call('ZREM', P .. 'groups', group) end
  end

  local function discard(group, member)
    if call('ZREM', P .. 'g:' .. group, member) == 0 then return false end
    local address = address_of(member)
    call('ZREM', P .. 'of:' .. address, member .. '\0' .. group)
    local key = P .. 't:' .. group
    local raw = call('HGET', key, address)
    if raw then
      local target = unpack_(raw)
      target[1] = target[1] - 1
      if target[1] > 0 then
        call('HSET', key, address, pack(target))
      else
        call('HDEL', key, address)
        forget_if_empty(group)
      end
    end
    return true
  end

  local function split(pair)
    local cut = pair:find('\0', 1, true)
    return pair:sub(1, cut - 1), pair:sub(cut + 1)
  end

  -- Takes all channels of a prefix out of their groups: they may be many.
  local function leave_prefix(prefix)
    local key, members = P .. 'of:' .. prefix, {}
    for _, pair in ipairs(call('ZRANGE', key, 0, -1)) do
      local member, group = split(pair)
      members[group] = members[group] or {}
      table.insert(members[group], member)
    end
    for group, found in pairs(members) do
      for from = 1, #found, 4000 do
        call('ZREM', P .. 'g:' .. group, unpack(found, from, math.min(from + 3999, #found)))
      end
      call('HDEL', P .. 't:' .. group, prefix)
      forget_if_empty(group)
    end
    return call('DEL', key) == 1
  end

  -- Takes a channel out of all its groups; of a prefix, all its channels. Says whether there were any.
  function leave(name)
    if name:sub(-1) == '!' then return leave_prefix(name) end
    local key = P .. 'of:' .. address_of(name)
    local found = call('ZRANGEBYLEX', key, '[' .. name .. '\0', '(' .. name .. '\1')
    for _, pair in ipairs(found) do
      local member, group = split(pair)
      discard(group, member)
    end
    return #found > 0
  end

  Q = {
    expires_of = expires_of,
    is_notice = is_notice,
    head_of = head_of,
    address_of = address_of,
    tie = tie,
    untie = untie,
    accept = accept,
    drop = drop,
    wake_all = wake_all,
    unblock = unblock,
    flush = flush,
    flush_all = flush_all,
    enqueue = enqueue,
    own = own,
    parse_lane = parse_lane,
    write_lane = write_lane,
    begin_lane = begin_lane,
    release = release,
    release_all = release_all,
    without_expired = without_expired,
    purge = purge,
    open = open,
    place = place,
    promote = promote,
    put_back = put_back,
    return_all = return_all,
    discard = discard,
    leave = leave,
  }
  return Q
end
