-- statistics(P; address) -> accepted, refused, pending, age, reason, count, reason, count…
--
-- The counts of one channel or prefix, or of all when `address` is "". Drops what has expired, and
-- buries who has died, first.
--
-- reads and writes   all

local wanted = ARGV[1]
bury_dead()
promote(10000)
local addresses = call('SMEMBERS', P .. 'channels')
for _, address in ipairs(addresses) do tidy(address) end
finish()

local accepted, refused, pending, oldest, dropped = 0, 0, 0, now, {}

local function count(fields)
  for i = 1, #fields, 2 do
    local field, number = fields[i], tonumber(fields[i + 1])
    if field == 'accepted' then accepted = accepted + number end
    if field == 'refused' then refused = refused + number end
    if field == 'pending' then pending = pending + number end
    if field:sub(1, 8) == 'dropped:' then
      local reason = field:sub(9)
      dropped[reason] = (dropped[reason] or 0) + number
    end
  end
end

local function look(address, envelope)
  if wanted == '' or address == wanted then
    local _, sent = head_of(envelope)
    oldest = math.min(oldest, sent)
    return 1
  end
  return 0
end

for _, address in ipairs(addresses) do
  if wanted == '' or address == wanted then
    count(call('HGETALL', P .. 'c:' .. address))
    local bundle = call('LINDEX', P .. 'm:' .. address, 0)
    if bundle then
      local first = untie(bundle)[1]
      if not is_notice(first) then look(address, first) end
    end
  end
end
if wanted == '' then count(call('HGETALL', P .. 'past')) end
local found = call('HGETALL', P .. 'l')
for i = 1, #found, 2 do
  if #found[i + 1] > 16 then
    for _, raw in ipairs(call('LRANGE', P .. 'b:' .. found[i], 0, -1)) do
      local entry = unpack_(raw)
      pending = pending + look(entry[1], entry[3])
    end
  end
end
for _, member in ipairs(call('ZRANGE', P .. 'd', 0, -1)) do
  local entry = unpack_(member:sub(17))
  pending = pending + look(entry[1], entry[3])
end
local reply = {accepted, refused, pending, string.format('%.6f', math.max(0, now - oldest))}
for reason, number in pairs(dropped) do
  reply[#reply + 1] = reason
  reply[#reply + 1] = number
end
return reply
