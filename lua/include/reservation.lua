-- Places held for a job. A reservation is `held`, then `confirmed`, `released`, `expired` or `lost` (its miner left); its hash stays a while
-- after its end so that a late call learns what happened. A confirmed one is still the job's until a feedback says that the job is
-- over: it is known for as long as a plan that names it (src/hub/matching/reservations.ts), which a request before the end may have written.
local TOMBSTONE_MS = 60000

local function reservation_key(id)
  return P .. 'reservation:' .. id
end

-- Tells apart the times that a miner entered the registry, even within a millisecond.
local function registration_of(miner_id)
  return redis.call('HGET', miner_key(miner_id), 'registration') or ''
end

-- The miner's hash names the reservations that hold its places, so that they go with it to another shard.
local function hold_field(id)
  return 'hold:' .. id
end

-- Ends a held reservation: frees its place, or (confirmed) turns it into one more in queue_len. Returns the reservation's
-- state before, or nil when it is unknown.
local function end_reservation(id, now, outcome)
  local key = reservation_key(id)
  local held = redis.call('HMGET', key, 'state', 'miner_id', 'registration', 'ttl_ms')
  if held[1] ~= 'held' then return held[1] or nil end
  redis.call('HSET', key, 'state', outcome)
  redis.call('PEXPIRE', key, TOMBSTONE_MS + (outcome == 'confirmed' and number_or(held[4], 0) or 0))
  redis.call('ZREM', P .. 'reservations', id)
  local miner = load_miner(held[2])
  -- A miner that left and came back starts with all its places free: the old claim is not its own.
  if miner and registration_of(miner.id) == held[3] then
    redis.call('HDEL', miner_key(miner.id), hold_field(id))
    miner.reserved = math.max(0, number_or(miner.reserved, 0) - 1)
    if outcome == 'confirmed' then count_accepted(miner) end
    settle(miner, now)
  end
  return 'held'
end

-- The state of a reservation at this moment, nil when it is unknown. One that is held ends here when its time is over, or when its
-- miner has left: a miner that is back has all its places, and another job may have this one.
local function state_of(id, now)
  local r = redis.call('HMGET', reservation_key(id), 'state', 'miner_id', 'registration', 'until_ms')
  local ends = r[1] == 'held'
    and ((tonumber(r[4]) <= now and 'expired') or (registration_of(r[2]) ~= r[3] and 'lost'))
  if ends then end_reservation(id, now, ends) end
  return ends or r[1] or nil
end

-- The job of a confirmed reservation is over, well or not. Its place is long in queue_len, and stays there until the miner says.
local function give_up_confirmed(id)
  local key = reservation_key(id)
  redis.call('HSET', key, 'state', 'released')
  redis.call('PEXPIRE', key, TOMBSTONE_MS + number_or(redis.call('HGET', key, 'ttl_ms'), 0))
end

-- Ends at most `limit` reservations whose time is over; returns how many.
local function expire_reservations(now, limit)
  local due = redis.call('ZRANGEBYSCORE', P .. 'reservations', '-inf', now, 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    if end_reservation(id, now, 'expired') ~= 'held' then redis.call('ZREM', P .. 'reservations', id) end
  end
  return #due
end

-- Takes a place on a miner, if it is matchable (online or degraded) at this moment. Returns true when taken.
local function hold_place(id, miner_id, job_id, ttl_ms, now)
  local miner = load_miner(miner_id)
  if not miner then return false end
  local match = string.match(miner.bins, '^(%d)')
  if match == '0' then return false end
  miner.reserved = number_or(miner.reserved, 0) + 1
  settle(miner, now)
  local key = reservation_key(id)
  -- No expiry of its own: were the hash gone before its end is stepped (a long outage), the place would never be freed.
  local until_ms = now + ttl_ms
  redis.call('HSET', key, 'state', 'held', 'miner_id', miner_id, 'job_id', job_id, 'ttl_ms', ttl_ms,
    'until_ms', text_of(until_ms), 'registration', registration_of(miner_id))
  redis.call('ZADD', P .. 'reservations', until_ms, id)
  redis.call('HSET', miner_key(miner_id), hold_field(id), '1')
  return true
end
