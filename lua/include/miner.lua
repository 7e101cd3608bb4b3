-- A miner's live fields: read, derive, write. Everything that follows from other fields (price, latency norm, steps,
-- bins, record) is derived in `settle`, in one place, so that the index cannot drift from the hash.
local LIVE = {
  'slot', 'state', 'session', 'key_digest', 'region', 'gpu_vram_gb', 'ram_gb', 'max_parallel',
  'base_price', 'price_override', 'price_override_until_ms', 'price_cap', 'price',
  'lease_until_ms', 'next_step_ms', 'last_seen_ms', 'queue_len', 'busy', 'draining', 'reserved',
  'self_latency_ms', 'observed_latency_ms', 'observed_samples', 'latency_norm',
  'latency_norm_at_ms', 'latency_ms', 'eta_ms', 'trust', 'uptime_ms', 'bins',
}
local BINS_UP_TO_LATENCY = '^' .. string.rep('[^,]*,', AT_LATENCY - 1) .. '([^,]+)'
local UNKNOWN_LATENCY_NORM = 0.5
local OBSERVED_FROM = 3 -- samples of feedback from which the observed latency replaces the reported one

local function miner_key(id)
  return P .. 'miner:' .. id
end

-- Reads the live fields of a miner as stored (text); nil when it is not in the registry.
local function load_miner(id)
  local values = redis.call('HMGET', miner_key(id), unpack(LIVE))
  if not values[1] then return nil end
  local miner = { id = id, was = {} }
  for i, name in ipairs(LIVE) do
    miner[name] = values[i] or ''
    miner.was[name] = values[i]
  end
  return miner
end

local function number_or(text, otherwise)
  return tonumber(text) or otherwise
end

-- Effective price, as text: a live override or the miner's own, never above the cap.
local function effective_price(miner, now)
  local price = miner.base_price
  if miner.price_override ~= '' then
    local ends = number_or(miner.price_override_until_ms, math.huge)
    if now < ends then price = miner.price_override end
  end
  if miner.price_cap ~= '' and tonumber(miner.price_cap) < tonumber(price) then price = miner.price_cap end
  return price
end

-- The latency that counts, ms: observed through feedback once there are samples enough, else self-reported, else -1.
local function effective_latency(miner)
  if number_or(miner.observed_samples, 0) >= OBSERVED_FROM then return number_or(miner.observed_latency_ms, -1) end
  return number_or(miner.self_latency_ms, -1)
end

-- 1 minus the share of the region's online miners with known latency that are strictly faster (in a lower bucket).
local function latency_norm_of(region, bucket)
  local flat = redis.call('HGETALL', P .. 'latency:' .. region)
  local faster, total = 0, 0
  for i = 1, #flat, 2 do
    local count = tonumber(flat[i + 1])
    total = total + count
    if tonumber(flat[i]) < bucket then faster = faster + count end
  end
  if total == 0 then return 1 end
  return micro(1 - faster / total)
end

-- The request-independent part of the score in 1,024 steps, one for each strategy (matching.md, "Score").
local function static_steps(latency_norm, trust, load_norm)
  local steps = {}
  for i, s in ipairs(C.strategies) do
    local sum = s.latency + s.trust + s.load
    local share = sum > 0 and (s.latency * latency_norm + s.trust * trust + s.load * load_norm) / sum or 0
    steps[i] = math.floor(share * (STEPS - 1) + 0.5)
  end
  return steps
end

-- Sum and number of the known latencies of online miners (whole ms), for the mean that the health answer shows.
local function count_mean_latency(was_text, is_text)
  if was_text == is_text then return end
  local was, is = tonumber(was_text), tonumber(is_text)
  local sum = (is and math.floor(is + 0.5) or 0) - (was and math.floor(was + 0.5) or 0)
  if sum ~= 0 then redis.call('HINCRBY', P .. 'stats', 'latency_sum_ms', sum) end
  if (was == nil) ~= (is == nil) then redis.call('HINCRBY', P .. 'stats', 'latency_known', is and 1 or -1) end
end

-- The share of a miner's bins that its latency decides; refreshed when its bucket moves, else once a lease, because
-- the others move too and reading the histogram at every beat would cost more than it tells.
local function settle_latency_norm(miner, now, latency, online, old_bucket)
  local bucket = latency >= 0 and log_bin(latency, ETA_UNIT) or -1
  local counted = online and bucket or -1
  if latency < 0 then
    miner.latency_norm = UNKNOWN_LATENCY_NORM
  else
    local age = now - number_or(miner.latency_norm_at_ms, -math.huge)
    if counted ~= old_bucket or age >= C.session_ttl_ms then
      miner.latency_norm = latency_norm_of(miner.region, bucket)
      miner.latency_norm_at_ms = now
    end
  end
  return counted
end

-- Writes the fields that differ from what the hash held.
local function write_miner(miner)
  local changes, was = {}, miner.was
  for _, name in ipairs(LIVE) do
    local value = miner[name]
    local text = type(value) == 'string' and value or text_of(value)
    if was[name] ~= text and (was[name] or text ~= '') then
      miner[name] = text
      changes[#changes + 1] = name
      changes[#changes + 1] = text
    end
  end
  if #changes > 0 then redis.call('HSET', miner_key(miner.id), unpack(changes)) end
end

-- Derives all that follows from the live fields, moves the index, and writes what changed. `miner` holds text or
-- numbers; `miner.was` what the hash held. The slot must be set.
local function settle(miner, now)
  local slot, online, was = miner.slot, miner.state == 'online', miner.was
  local was_bins = was.bins or ''
  local max_parallel = tonumber(miner.max_parallel)
  local taken = number_or(miner.queue_len, 0) + number_or(miner.reserved, 0)
  local free = math.max(0, max_parallel - taken)
  local latency = effective_latency(miner)
  miner.latency_ms = latency >= 0 and text_of(latency) or ''
  miner.price = effective_price(miner, now)
  local price = tonumber(miner.price)

  local old_bucket = tonumber(string.match(was_bins, BINS_UP_TO_LATENCY) or -1)
  local bucket = settle_latency_norm(miner, now, latency, online, old_bucket)
  local steps = static_steps(tonumber(miner.latency_norm), tonumber(miner.trust), free / (max_parallel + 1))
  local eta = latency >= 0 and latency * (1 + taken / max_parallel) or -1
  miner.eta_ms = eta >= 0 and text_of(eta) or ''

  local matchable = free > 0 and miner.busy ~= '1' and miner.draining == 'no'
  local price_bin, price_fine = log_bin(price, PRICE_UNIT)
  local eta_bin = eta >= 0 and log_bin(eta, ETA_UNIT) or -1
  local bins = {
    matchable and (online and 1 or 2) or 0, online and 1 or 2, miner.busy == '1' and 1 or 0,
    miner.draining == 'no' and 0 or 1, free == 0 and 1 or 0, price_bin, price_fine, eta_bin, bucket, unpack(steps),
  }
  miner.bins = table.concat(bins, ',')
  if miner.bins ~= was_bins then move_bins(slot, miner.region, was_bins, bins) end

  count_mean_latency(was.state == 'online' and was.latency_ms or '', online and miner.latency_ms or '')
  if was.price ~= miner.price then redis.call('ZADD', P .. 'prices', price, slot) end
  if eta < 0 then
    if (was.eta_ms or '') ~= '' then redis.call('ZREM', P .. 'etas', slot) end
  elseif was.eta_ms ~= miner.eta_ms then
    redis.call('ZADD', P .. 'etas', miner.eta_ms, slot)
  end
  write_miner(miner)
  redis.call('HSET', P .. 'records', slot, pack_record(tonumber(miner.lease_until_ms), price,
    number_or(miner.gpu_vram_gb, -1), number_or(miner.ram_gb, -1), eta, steps, miner.id))
end
