-- Operations that are no plain sends, and bundles that find no room as they are: what most exchanges
-- do without. Put between `queues` and `exchange`.

-- Each of `operations` does what a segment says, with arguments from behind place `at`; returns the
-- place of the last one. What it refuses is in `refused`, and `closed` says which lanes that closes.
local function make_others(sender, full)
  local Q = queues()
  local P, call, pack, unpack_ = KEYS[1], redis.call, cmsgpack.pack, cmsgpack.unpack
  local untie, enqueue, place, discard, leave, put_back, drop, accept, begin_lane, address_of =
    Q.untie, Q.enqueue, Q.place, Q.discard, Q.leave, Q.put_back, Q.drop, Q.accept, Q.begin_lane,
    Q.address_of
  local refused, closed = {}, {}

  local function refuse(segment, index, record, why, turn)
    local n = #refused
    refused[n + 1], refused[n + 2], refused[n + 3] = segment, index, why
    call('HINCRBY', P .. 'c:' .. record.address, 'refused', 1)
    record.changed = true
    if turn ~= '' then closed[turn:sub(17)], closed.any = true, true end
  end

  -- Puts the messages of a bundle into a queue one by one.
  local function send_each(number, segment, at)
    local _, _, address, capacity, lane_capacity = unpack(segment)
    local record, items = channel(address), untie(ARGV[at + 1])
    for i = 1, #items, 2 do
      local envelope, turn = items[i], items[i + 1]
      local why = turn ~= '' and closed[turn:sub(17)] and 'lane'
        or place(record, envelope, turn, capacity, lane_capacity, sender)
      if why then
        refuse(number, (i - 1) / 2, record, why, turn)
      else
        accept(record, 1)
      end
    end
    return at + 1
  end

  local function delayed(number, segment, at)
    local _, address, turn, due, id = unpack(segment)
    local record, envelope = channel(address), ARGV[at + 1]
    if turn ~= '' and closed[turn:sub(17)] then
      refuse(number, 0, record, 'lane', turn)
    else
      call('ZADD', P .. 'd', due, id .. pack({record.address, turn, envelope}))
      accept(record, 1)
      ring(record, 1000000000)
    end
    return at + 1
  end

  -- Uses the notice that is there for a channel with "!", if it is wanted.
  local function notify(member, at, is_wanted)
    if not member:find('!', 1, true) then return at end
    if is_wanted then enqueue(channel(address_of(member)), ARGV[at + 1], '') end
    return at + 1
  end

  local function group_add(_, segment, at)
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
    return notify(member, at, true)
  end

  local function group_discard(_, segment, at)
    local _, group, member = unpack(segment)
    return notify(member, at, discard(group, member))
  end

  local function lane_of(rule, values)
    local value = rule[4] ~= '' and values[rule[4]]
    if not value then return '', '' end
    local lane = rule[5] .. '\0' .. value
    return lane, #lane <= 200 and lane or redis.sha1hex(lane)
  end

  local function group_send(_, segment, at)
    local _, group, id, values = unpack(segment)
    local core = ARGV[at + 1]
    local found = call('HGETALL', P .. 't:' .. group)
    local group_end = pack(group) .. '\1'
    local high = '\207' .. struct.pack('>I4', tonumber(id:sub(1, 8), 16))
    local ends = {}  -- by the seconds that a message may wait
    for i = 1, #found, 2 do
      local address, target = found[i], unpack_(found[i + 1])
      if target[2] > now then
        local rule, record = target[3], channel(address)
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
        if full then
          drop(record, 'memory')
        elseif place(record, envelope, turn, rule[1], rule[2], nil) then
          drop(record, 'full')
        else
          accept(record, 1)
        end
      end
    end
    return at + 1
  end

  local function leave_all(_, segment, at)
    return notify(segment[2], at, leave(segment[2]))
  end

  -- What was taken and not held, by somebody who is gone.
  local function restore(_, segment, at)
    local items = {}
    for i = 2, #segment do
      at = at + 1
      items[#items + 1] = ARGV[at]
      items[#items + 1] = segment[i]
      if segment[i] ~= '' then begin_lane(segment[i]) end
    end
    put_back(items)
    return at
  end

  local function count_dropped(_, segment, at)
    local _, address, reason, number = unpack(segment)
    drop(channel(address), reason, number)
    return at
  end

  return {
    refused = refused, closed = closed,
    operations = {send_each, group_add, group_discard, group_send, delayed, leave_all, restore,
                  count_dropped},
  }
end
