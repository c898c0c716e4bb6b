-- What most exchanges do without: see `others()` in `exchange`. Operations that are no plain sends,
-- and bundles that have to be opened. Put between `queues` and `exchange`.

local function make_others(rules, argument, refused, closed, sender, held, full)
  local Q = queues()
  local untie, tie, enqueue, place, discard, leave, put_back, drop, begin_lane, address_of, release,
    is_notice, without_expired =
    Q.untie, Q.tie, Q.enqueue, Q.place, Q.discard, Q.leave, Q.put_back, Q.drop, Q.begin_lane,
    Q.address_of, Q.release, Q.is_notice, Q.without_expired

  local function refuse(segment, index, record, why, turn)
    local n = #refused
    refused[n + 1], refused[n + 2], refused[n + 3] = segment, index, why
    record.refused = record.refused + 1
    record.changed = true
    if turn ~= '' then closed[turn:sub(17)], closed.any = true, true end
  end

  -- Puts the messages of a bundle into a queue one by one.
  local function send_each(number, rule, bundle)
    local record, items = channel(rules[rule]), untie(bundle)
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
    ring(record, 1000000000)
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

  local function release_all(turns)
    for _, turn in ipairs(turns) do release(turn) end
  end

  return {
    send_each = send_each, return_all = return_all, open = open, release_all = release_all,
    operations = {group_add, group_discard, group_send, delayed, leave_all, restore, count_dropped},
  }
end
