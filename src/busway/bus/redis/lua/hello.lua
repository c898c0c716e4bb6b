-- hello(P; epoch, known, seen, waiting) -> epoch, seconds, microseconds
--
-- What a connection asks first: the mark of this shard's data, which is `epoch` if there was none,
-- and the time. If it is not the one that the process has `known`, those data are lost: what waited
-- in them is counted, once, however many processes come. The latest view of it is the one to count.
--
--   known     mark of the data that the process knew; empty: it comes for the first time
--   seen      when it has last seen them, by the server's clock: seconds since the epoch
--   waiting   how many messages waited in them then
--
-- reads and writes   epoch lost past

insist()
call('SET', P .. 'epoch', ARGV[1], 'NX')
local epoch, known = call('GET', P .. 'epoch'), ARGV[2]
if known ~= '' and known ~= epoch then
  local found = call('HGET', P .. 'lost', known)
  local before = found and unpack_(found) or {0, 0}
  local seen, messages = tonumber(ARGV[3]), tonumber(ARGV[4])
  if seen > before[1] then
    call('HSET', P .. 'lost', known, pack({seen, messages}))
    call('HINCRBY', P .. 'past', 'dropped:server restarted', messages - before[2])
  end
end
local time = call('TIME')
return {epoch, time[1], time[2]}
