-- mark(P; receiver, first, begun) -> 1, or 0
--
-- Says that a receiver has begun what it took up to place `begun`, if it still holds the bundle
-- whose first message has the place `first`; 0: others have got it, for the receiver was thought
-- dead.
--
-- reads and writes   h

local key = P .. 'h:' .. ARGV[1]
if call('HEXISTS', key, ARGV[2]) == 0 then return 0 end
insist()
call('HSET', key, 'b', ARGV[3])
return 1
