-- What time has made due: leases, reservations, price overrides. Every match and claim takes a few steps first, as
-- Redis expires keys, and every beacon of a hub some more, so the registry stays right with no worker running.
local HOLD_MS = 5000 -- a removal held back is looked at again after this long
local WINDOW_MS = 60000

local function stat(name)
  return tonumber(redis.call('HGET', P .. 'stats', name) or nil)
end

local function set_stats(...)
  redis.call('HSET', P .. 'stats', ...)
end

-- True while the hubs themselves were away: no beacon for longer than a lease, or inside the fresh grace after it.
local function hub_outage(now)
  local seen = stat('hub_seen_ms')
  if seen and now - seen > C.session_ttl_ms then return true end
  return now < (stat('hold_until_ms') or 0)
end

-- Self-preservation, as Eureka does it: a large part of the fleet falling silent at once is more likely a cut in the
-- network than their death. At most C.preserve_pct % of the fleet of a minute ago may be removed a minute, until the
-- loss has lasted three grace periods.
local function may_remove(now)
  if hub_outage(now) then return false end
  local window = stat('reaper_window_ms')
  if not window or now - window >= WINDOW_MS then
    local fleet = tonumber(redis.call('HGET', TERMS, 'all') or 0)
    set_stats('reaper_window_ms', text_of(now), 'reaper_window_fleet', fleet, 'reaper_window_removed', 0)
    local held = stat('reaper_held_at_ms')
    if held and now - held > 2 * WINDOW_MS then redis.call('HDEL', P .. 'stats', 'reaper_held_since_ms') end
  end
  local fleet = stat('reaper_window_fleet')
  if fleet_of(fleet) < C.preserve_min then return true end
  if stat('reaper_window_removed') < math.max(1, math.floor(fleet * C.preserve_pct / 100)) then return true end
  local since = stat('reaper_held_since_ms')
  if not since then
    since = now
    set_stats('reaper_held_since_ms', text_of(now))
  end
  return now - since > 3 * C.grace_ms
end

-- One step of one lapsed lease: online -> degraded -> removed, or held back. Returns what happened.
local function step_lease(id, now)
  local miner = load_miner(id)
  if not miner then
    redis.call('ZREM', P .. 'leases', id)
    return 'orphan'
  end
  if miner.state == 'online' then
    miner.state = 'degraded'
    redis.call('ZADD', P .. 'leases', tonumber(miner.lease_until_ms) + C.grace_ms, id)
    settle(miner, now)
    return 'degraded'
  end
  if may_remove(now) then
    remove_miner(miner, now, 'lapsed')
    redis.call('HINCRBY', P .. 'stats', 'reaper_window_removed', 1)
    redis.call('HINCRBY', P .. 'stats', 'reaped', 1)
    return 'removed'
  end
  redis.call('ZADD', P .. 'leases', now + HOLD_MS, id)
  redis.call('HINCRBY', P .. 'stats', 'reaper_held', 1)
  set_stats('reaper_held_at_ms', text_of(now))
  return 'held'
end

local function step_overrides(now, limit)
  local due = redis.call('ZRANGEBYSCORE', P .. 'overrides', '-inf', now, 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    local miner, pricing = load_miner(id), load_pricing(id)
    set_override(id, pricing, '', '')
    if miner then
      store_pricing(id, pricing)
      apply_pricing(miner, pricing, now)
      settle(miner, now)
    end
  end
  return #due
end

-- Takes at most `limit` due entries, of all kinds together, a step further: the limit bounds the call. No kind crowds out
-- another. Returns how many, and counts of leases by outcome.
local function step_due(now, limit)
  local share = math.ceil(limit * 2 / 5)
  local stepped = expire_reservations(now, math.min(share, limit))
  stepped = stepped + step_overrides(now, math.min(share, limit - stepped))
  local counts = { stepped = stepped, degraded = 0, removed = 0, held = 0, orphan = 0 }
  if stepped == limit then return counts end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now, 'LIMIT', 0, limit - stepped)) do
    local outcome = step_lease(id, now)
    counts[outcome] = counts[outcome] + 1
    counts.stepped = counts.stepped + 1
  end
  return counts
end
