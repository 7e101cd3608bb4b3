-- Granting leases and asking for the next heartbeat.
local JITTER = 0.1

-- Sends the miner's lease `now + lease` and when to beat next. The interval is a third of the lease, stretched (and
-- the lease with it) when the fleet would send more than the target, as Nomad does; the jitter (10% either way)
-- keeps miners that started together from beating together.
local function grant_lease(miner, now)
  local lease = C.session_ttl_ms
  local interval = lease / 3
  if C.heartbeat_target_per_sec > 0 then
    local online = tonumber(redis.call('HGET', TERMS, 'state:online') or 0)
    local spread = fleet_of(online) / C.heartbeat_target_per_sec * 1000
    if spread > interval then
      interval = spread
      lease = math.floor(interval * 3)
    end
  end
  local turn = (tonumber(miner.slot) * 7919 + now) % 2001 / 1000 - 1
  local next_beat = math.floor(interval * (1 + JITTER * turn))
  miner.state = 'online'
  miner.lease_until_ms = now + lease
  redis.call('ZADD', P .. 'leases', now + lease, miner.id)
  return next_beat
end

-- Credits online time since the last sign of life, at most one lease, and notes this one.
local function credit_uptime(miner, now)
  local gap = now - tonumber(miner.last_seen_ms)
  local lease = tonumber(miner.lease_until_ms) - tonumber(miner.last_seen_ms)
  miner.uptime_ms = number_or(miner.uptime_ms, 0) + math.max(0, math.min(gap, lease))
  miner.last_seen_ms = now
end

-- The lease fields of an answer: now, lease end, end of the session, wait until the next heartbeat (all ms).
local function lease_reply(miner, now, next_beat)
  local ends = tonumber(miner.lease_until_ms)
  return { text_of(now), text_of(ends), text_of(ends + C.grace_ms), text_of(next_beat) }
end
