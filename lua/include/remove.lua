-- Taking a miner out of the registry: hash, terms, slot, lease, commands. Its reservations end by their own expiry.
local JOURNAL = P .. 'journal'

local function journal_full()
  return redis.call('XLEN', JOURNAL) >= C.journal_max
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

local function remove_miner(miner, now, reason)
  local slot = miner.slot
  move_static(slot, static_terms(stored_profile(miner.id)), {})
  move_bins(slot, miner.region, miner.indexed.bins, {})
  count_mean_latency(miner.indexed.state == 'online' and miner.indexed.latency_ms or '', '')
  redis.call('HDEL', P .. 'records', slot)
  redis.call('ZREM', P .. 'prices', slot)
  redis.call('ZREM', P .. 'etas', slot)
  redis.call('ZREM', P .. 'leases', miner.id)
  redis.call('ZREM', P .. 'overrides', miner.id)
  redis.call('SREM', P .. 'changed', miner.id)
  redis.call('DEL', miner_key(miner.id), P .. 'commands:' .. miner.id)
  redis.call('RPUSH', P .. 'slots:free', slot)
  if journal_full() then
    redis.call('HINCRBY', P .. 'stats', 'journal_skipped', 1)
  else
    redis.call('XADD', JOURNAL, '*', 'type', 'removed', 'data', cjson.encode({
      miner_id = miner.id, at_ms = now, reason = reason, uptime_ms = number_or(miner.uptime_ms, 0),
    }))
  end
end
