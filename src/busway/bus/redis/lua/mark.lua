-- mark(P; receiver, begun, first…) -> those of the bundles that it does not hold any more
--
-- Says that a receiver begins what it took up to place `begun`: the bundles whose first messages have
-- the places `first`. Those that it does not hold others have got, for it was thought dead. What comes
-- late takes nothing back.
--
-- reads and writes   h

local key, begun = P .. 'h:' .. ARGV[1], ARGV[2]
local found = call('HMGET', key, 'b', unpack(ARGV, 3))
local missing = {}
for i = 3, #ARGV do
  if not found[i - 1] then missing[#missing + 1] = ARGV[i] end
end
if #missing < #ARGV - 2 and tonumber(found[1] or 0) < tonumber(begun) then
  insist()
  call('HSET', key, 'b', begun)
end
return missing
