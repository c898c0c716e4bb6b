-- The whole of `queues()`, by name: for the scripts that need much of it. Put behind `queues`.

queues()
local expires_of, is_notice, head_of, address_of, tie =
  Q.expires_of, Q.is_notice, Q.head_of, Q.address_of, Q.tie
local untie, drop, wake_all, unblock =
  Q.untie, Q.drop, Q.wake_all, Q.unblock
local flush, enqueue, parse_lane, write_lane, begin_lane =
  Q.flush, Q.enqueue, Q.parse_lane, Q.write_lane, Q.begin_lane
local release, release_all =
  Q.release, Q.release_all
local without_expired, purge, place, promote, put_back =
  Q.without_expired, Q.purge, Q.place, Q.promote, Q.put_back
local discard, leave =
  Q.discard, Q.leave
