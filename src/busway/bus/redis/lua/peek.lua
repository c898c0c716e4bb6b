-- peek(P; address) -> envelope, or nothing
--
-- The message that the next exchange would take off a channel; it stays there.
--
-- reads   m

local key = P .. 'm:' .. ARGV[1]
for index = 0, call('LLEN', key) - 1 do
  local items = untie(call('LINDEX', key, index))
  for i = 1, #items, 2 do
    if expires_of(items[i]) > now then return items[i] end
  end
end
return false
