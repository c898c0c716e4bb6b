-- flush(P; core, id) -> nothing
--
-- Drops every message, group and count, and wakes who waits for room. Who waits for messages goes
-- on waiting. Those that read a prefix are told that they have no members any more.
--
--   core   what is between channel and lane of their notice's envelope
--   id     its id, 8 bytes
--
-- reads and writes   all

insist()
for _, address in ipairs(call('SMEMBERS', P .. 'channels')) do
  local record = channel(address)
  unblock(record)
  call('DEL', P .. 'm:' .. address, P .. 'c:' .. address, P .. 'of:' .. address)
  record.pending, record.accepted = 0, 0
  record.changed = record.subs ~= '' or record.owner ~= ''
  record.new, record.remade = true, nil
  if address:sub(-1) == '!' then
    local head = '\153\203' .. struct.pack('>d', now + 60) .. '\3\207' .. ARGV[2]
    enqueue(record, head .. pack(address) .. ARGV[1] .. '\160\160\1', '')
  end
end
local found = call('HGETALL', P .. 'l')
for i = 1, #found, 2 do
  if #found[i + 1] > 16 then
    wake_all(P .. 'lw:' .. found[i])
    call('DEL', P .. 'b:' .. found[i])
  end
end
for _, group in ipairs(call('ZRANGE', P .. 'groups', 0, -1)) do
  for _, member in ipairs(call('ZRANGE', P .. 'g:' .. group, 0, -1)) do
    call('DEL', P .. 'of:' .. address_of(member))
  end
  call('DEL', P .. 'g:' .. group, P .. 't:' .. group)
end
for _, process in ipairs(call('ZRANGE', P .. 'processes', 0, -1)) do
  for _, receiver in ipairs(call('SMEMBERS', P .. 'r:' .. process)) do
    call('DEL', P .. 'h:' .. receiver, P .. 'p:' .. receiver, P .. 'a:' .. receiver)
  end
end
call('DEL', P .. 'channels', P .. 'l', P .. 'd', P .. 'groups', P .. 'past', P .. 'waiting')
finish()
return 0
