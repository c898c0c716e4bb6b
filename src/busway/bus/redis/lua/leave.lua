-- leave(P; process, receiver, begun, subscription, channels, awaits, came) -> nothing
--
-- A receiver ends: what it holds and has not begun goes back. Without a receiver, its whole process
-- ends.
--
--   begun      place up to which the receiver has begun
--   channels   msgpack array of the channels of its subscription
--   awaits     number of the first bundle that it was handed, is done on delivery, and did not come:
--              these go back; from 1
--   came       how many that it was handed have come since it said so, and are done on delivery
--
-- reads and writes   all

local process, receiver, begun, subscription = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
insist()
if receiver == '' then
  bury(process)
else
  call('ZREM', P .. 's:' .. subscription, receiver)
  settle(receiver, tonumber(begun), ARGV[6], ARGV[7])
  call('SREM', P .. 'r:' .. process, receiver)
  dismiss(receiver)
  if subscription ~= '' then
    for _, name in ipairs(unpack_(ARGV[5])) do
      if call('EXISTS', P .. 'm:' .. name) == 1 then ring(channel(name), 1) end
    end
  end
end
finish()
return 0
