-- groups(P) -> group, members, processes, group, members, processes…
--
-- How large each group is, here.
--
-- reads   groups g t

local reply = {}
local since = string.format('(%.6f', now)
for _, group in ipairs(call('ZRANGE', P .. 'groups', 0, -1)) do
  local members = call('ZCOUNT', P .. 'g:' .. group, since, '+inf')
  local processes = 0
  local targets = call('HGETALL', P .. 't:' .. group)
  for i = 1, #targets, 2 do
    if targets[i]:sub(-1) == '!' and unpack_(targets[i + 1])[2] > now then
      processes = processes + 1
    end
  end
  if members > 0 then
    reply[#reply + 1] = group
    reply[#reply + 1] = members
    reply[#reply + 1] = processes
  end
end
return reply
