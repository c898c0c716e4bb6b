-- hello(P; epoch) -> epoch, seconds, microseconds
--
-- What a connection asks first: the mark of this shard's data, which is `epoch` if there was none,
-- and the time.
--
-- reads and writes   epoch

call('SET', P .. 'epoch', ARGV[1], 'NX')
local time = call('TIME')
return {call('GET', P .. 'epoch'), time[1], time[2]}
