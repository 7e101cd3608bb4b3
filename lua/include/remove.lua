-- Taking a miner out of the registry: hash, terms, slot, lease, commands. Its reservations end by their own expiry.
local JOURNAL = P .. 'journal'
--- @include "uptime"

local function journal_full()
  return redis.call('XLEN', JOURNAL) >= C.journal_max
end

-- The version of a journal entry about a miner, by which Postgres orders them: the time in ms, but past the miner's last one, and not
-- before any that this shard gave, for the clock may step back (another master took over) and a miner may leave and come back.
local function next_version(id, now)
  local newest = number_or(redis.call('HGET', P .. 'stats', 'version_ms'), 0)
  local own = number_or(redis.call('HGET', miner_key(id), 'profile_version'), 0)
  local version = math.max(now, newest, own + 1)
  redis.call('HSET', P .. 'stats', 'version_ms', text_of(version))
  return version
end

local function json_or_empty(text)
  if not text or text == '' then return {} end
  return cjson.decode(text)
end

-- The profile that static terms follow from, as read from the hash.
local function stored_profile(id)
  local key = miner_key(id)
  local v = redis.call('HMGET', key, 'accel', 'tags', 'capabilities', 'gpu_key', 'region', 'gpu_vram_gb', 'ram_gb')
  return {
    accel = json_or_empty(v[1]), tags = json_or_empty(v[2]), capabilities = json_or_empty(v[3]),
    gpu_key = v[4] or '', region = v[5] or '', vram = number_or(v[6], -1), ram = number_or(v[7], -1),
  }
end

-- Keeps the online time of a miner that leaves, added to that of its earlier times in the registry: without this,
-- whoever comes and goes between two collections would seem to have been away all the time.
local function keep_uptime(miner, now)
  local seen, lease_until = tonumber(miner.last_seen_ms), tonumber(miner.lease_until_ms)
  local uptime = number_or(miner.uptime_ms, 0) + math.max(0, math.min(now, lease_until) - seen)
  local key = P .. 'uptime:' .. miner.id
  redis.call('INCRBY', key, string.format('%.0f', uptime))
  redis.call('PEXPIRE', key, KEEP_UPTIME_MS)
end

-- Takes a miner out of all that is kept beside its hash, which must still be there.
local function leave_index(miner)
  local slot = miner.slot
  move_static(slot, static_terms(stored_profile(miner.id)), {})
  move_bins(miner, {})
  count_mean_latency(miner.indexed.state == 'online' and miner.indexed.latency_ms or '', '')
  redis.call('HDEL', P .. 'records', slot)
  redis.call('ZREM', P .. 'prices', slot)
  redis.call('ZREM', P .. 'etas', slot)
  redis.call('ZREM', P .. 'leases', miner.id)
  redis.call('ZREM', P .. 'overrides', miner.id)
  redis.call('SREM', P .. 'changed', miner.id)
  redis.call('RPUSH', P .. 'slots:free', slot)
end

local function remove_miner(miner, now, reason)
  leave_index(miner)
  keep_uptime(miner, now)
  local version = next_version(miner.id, now)
  redis.call('DEL', miner_key(miner.id), P .. 'commands:' .. miner.id)
  if journal_full() then
    redis.call('HINCRBY', P .. 'stats', 'journal_skipped', 1)
  else
    redis.call('XADD', JOURNAL, '*', 'type', 'removed', 'data', cjson.encode({
      miner_id = miner.id, at_ms = version, reason = reason, uptime_ms = number_or(miner.uptime_ms, 0),
    }))
  end
end
