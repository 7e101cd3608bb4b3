-- Outages of the hub: silences of all its replicas that outlast a lease.

-- Milliseconds of outage in the life of this registry, the one that lasts now included.
local function outage_so_far(now)
  local counted = redis.call('HMGET', P .. 'stats', 'outage_ms', 'hub_seen_ms')
  local silence = now - tonumber(counted[2] or now)
  return tonumber(counted[1] or 0) + (silence > C.session_ttl_ms and silence or 0)
end
