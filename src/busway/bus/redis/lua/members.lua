-- members(P; group) -> members
--
-- The member channels of a group.
--
-- reads   g

return call('ZRANGEBYSCORE', P .. 'g:' .. ARGV[1], string.format('(%.6f', now), '+inf')
