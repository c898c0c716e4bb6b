-- statistics(P; address) -> rows
--
-- The counts of one channel or prefix, or of all when `address` is "". Drops what has expired, and
-- buries who has died, first.
--
--   rows   address, accepted, refused, pending, age, reason, count, reason, count… of each channel;
--          of those that are gone together with the address ""
--
-- reads and writes   all

local wanted = ARGV[1]
insist()
bury_dead()
promote(10000)
local addresses = call('SMEMBERS', P .. 'channels')
for _, address in ipairs(addresses) do tidy(address) end
finish()

local rows = {}
local function row(address)
  if wanted ~= '' and address ~= wanted then return nil end
  local found = rows[address]
  if not found then
    found = {accepted = 0, refused = 0, pending = 0, oldest = now, dropped = {}}
    rows[address] = found
  end
  return found
end

local function count(found, fields)
  for i = 1, #fields, 2 do
    local field, number = fields[i], tonumber(fields[i + 1])
    if field == 'accepted' or field == 'refused' or field == 'pending' then
      found[field] = number
    elseif field:sub(1, 8) == 'dropped:' then
      found.dropped[field:sub(9)] = math.max(number, 0)
    end
  end
end

local function look(found, envelope)
  local _, sent = head_of(envelope)
  found.oldest = math.min(found.oldest, sent)
end

-- An entry that waits outside of its queue.
local function look_apart(entry)
  local found = row(entry[1])
  if found then
    found.pending = found.pending + 1
    look(found, entry[3])
  end
end

for _, address in ipairs(addresses) do
  local fields = call('HGETALL', P .. 'c:' .. address)
  local found = fields[1] and row(address)
  if found then
    count(found, fields)
    local bundle = call('LINDEX', P .. 'm:' .. address, 0)
    local first = bundle and untie(bundle)[1]
    if first and not is_notice(first) then look(found, first) end
  end
end
if wanted == '' then
  local past = call('HGETALL', P .. 'past')
  if past[1] then count(row(''), past) end
end
local lanes = call('HGETALL', P .. 'l')
for i = 1, #lanes, 2 do
  if #lanes[i + 1] > 16 then
    for _, raw in ipairs(call('LRANGE', P .. 'b:' .. lanes[i], 0, -1)) do
      look_apart(unpack_(raw))
    end
  end
end
for _, member in ipairs(call('ZRANGE', P .. 'd', 0, -1)) do look_apart(unpack_(member:sub(17))) end

local reply = {}
for address, found in pairs(rows) do
  local age = string.format('%.6f', math.max(0, now - found.oldest))
  local flat = {address, found.accepted, found.refused, found.pending, age}
  for reason, number in pairs(found.dropped) do
    flat[#flat + 1] = reason
    flat[#flat + 1] = number
  end
  reply[#reply + 1] = flat
end
return reply
