-- beat(P; process, alive, sweep) -> epoch, was alive
--
-- Says that a process lives for `alive` seconds more, and buries those that are not heard of any
-- more. With `sweep` = "1" it also drops what has expired, a part at a time, unless another process
-- has done so lately.
--
-- reads and writes   all

local process, alive = ARGV[1], tonumber(ARGV[2])
insist()
local epoch = call('GET', P .. 'epoch')
bury_dead(process)
local lived = call('ZADD', P .. 'processes', now + alive, process) == 0
if ARGV[3] == '1' and call('SET', P .. 'swept', 1, 'NX', 'PX', 1500) then sweep(500) end
finish()
return {epoch, lived and 1 or 0}
