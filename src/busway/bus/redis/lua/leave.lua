-- leave(P; process, receiver, begun, subscription, channels) -> nothing
--
-- A receiver ends: what it holds and has not begun goes back. Without a receiver, its whole process
-- ends.
--
--   begun      place up to which the receiver has begun
--   channels   msgpack array of the channels of its subscription
--
-- reads and writes   all

local process, receiver, begun, subscription = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
insist()
if receiver == '' then
  bury(process)
else
  settle(receiver, tonumber(begun))
  call('SREM', P .. 'r:' .. process, receiver)
  dismiss(receiver)
  if subscription ~= '' then
    call('ZREM', P .. 's:' .. subscription, receiver)
    for _, name in ipairs(unpack_(ARGV[5])) do
      if call('EXISTS', P .. 'm:' .. name) == 1 then ring(channel(name), 1) end
    end
  end
end
finish()
return 0
