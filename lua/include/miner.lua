-- A miner's live fields: read, derive, write. Everything that follows from other fields (price, latency norm, steps,
-- bins, record) is derived in `settle`, in one place, so that the index cannot drift from the hash.
local LIVE = {
  'slot', 'state', 'session', 'key_digest', 'region', 'gpu_vram_gb', 'ram_gb', 'max_parallel', 'price',
  'lease_until_ms', 'last_seen_ms', 'queue_len', 'busy', 'draining', 'reserved', 'self_latency_ms',
  'observed_latency_ms', 'observed_samples', 'latency_norm', 'latency_norm_at_ms', 'latency_ms', 'eta_ms', 'trust',
  'uptime_ms', 'bins', 'addr', 'proto', 'queue_told', 'strategies',
}
local UNKNOWN_LATENCY_NORM = 0.5
local OBSERVED_FROM = 3 -- samples of feedback from which the observed latency replaces the reported one

local function miner_key(id)
  return P .. 'miner:' .. id
end

-- Reads the live fields of a miner as stored (text, '' where there is none); nil when it is not in the registry.
local function load_miner(id)
  local was = redis.call('HMGET', miner_key(id), unpack(LIVE))
  if not was[1] then return nil end
  local miner = { id = id, was = was }
  for i = 1, #LIVE do miner[LIVE[i]] = was[i] or '' end
  -- What the index holds of the miner, beside what it is about to become.
  miner.indexed = {
    bins = miner.bins, strategies = miner.strategies, state = miner.state, price = miner.price, latency_ms = miner.latency_ms,
    eta_ms = miner.eta_ms,
  }
  return miner
end

-- A miner that is not in the registry yet.
local function blank_miner(id)
  return { id = id, was = {}, indexed = { bins = '', strategies = '', state = '', price = '', latency_ms = '', eta_ms = '' } }
end

local function number_or(text, otherwise)
  return tonumber(text) or otherwise
end

-- A job that was accepted counts in queue_len until the miner's next sign of life says what is there: `queue_told` keeps what it said last.
local function count_accepted(miner)
  if miner.queue_told == '' then miner.queue_told = miner.queue_len end
  miner.queue_len = number_or(miner.queue_len, 0) + 1
end

-- What a heartbeat says of the queue, '' for as before.
local function take_queue_len(miner, queue_len)
  if queue_len == '' then queue_len = miner.queue_told end
  if queue_len ~= '' then miner.queue_len = queue_len end
  miner.queue_told = ''
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

-- The request-independent part of the score in 1,024 steps, one for each strategy (docs/ARCHITECTURE.md).
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

-- Refreshes latency_norm when the miner's bucket moves, else once a lease (not of a miner that `keeps_latency_norm`): the
-- others move too, and reading the histogram at every beat would cost more than it tells. Returns the bucket that the histogram counts (-1: none).
local function settle_latency_norm(miner, now, latency, online)
  if latency < 0 then
    miner.latency_norm = UNKNOWN_LATENCY_NORM
    return -1
  end
  local bucket = log_bin(latency, ETA_UNIT)
  local indexed = miner.indexed
  local known = online and indexed.state == 'online' and indexed.latency_ms ~= ''
  local moved = not known or (indexed.latency_ms ~= miner.latency_ms
    and log_bin(tonumber(indexed.latency_ms), ETA_UNIT) ~= bucket)
  local aged = now - number_or(miner.latency_norm_at_ms, -math.huge) >= C.session_ttl_ms
  if (moved or aged) and not miner.keeps_latency_norm then
    miner.latency_norm = latency_norm_of(miner.region, bucket)
    miner.latency_norm_at_ms = now
  end
  return online and bucket or -1
end

-- Makes text of all fields, and writes those that differ from what the hash held.
local function write_miner(miner)
  local changes, was = {}, miner.was
  for i = 1, #LIVE do
    local value = miner[LIVE[i]]
    if type(value) ~= 'string' then
      value = text_of(value)
      miner[LIVE[i]] = value
    end
    if was[i] ~= value and (was[i] or value ~= '') then
      changes[#changes + 1] = LIVE[i]
      changes[#changes + 1] = value
    end
  end
  if #changes > 0 then redis.call('HSET', miner_key(miner.id), unpack(changes)) end
end

-- Derives all that follows from the live fields, moves the index, and writes what changed. `miner` holds text or
-- numbers. The slot and the price must be set.
local function settle(miner, now)
  local slot, online, indexed = miner.slot, miner.state == 'online', miner.indexed
  local max_parallel = tonumber(miner.max_parallel)
  local taken = number_or(miner.queue_len, 0) + number_or(miner.reserved, 0)
  local free = math.max(0, max_parallel - taken)
  local latency = effective_latency(miner)
  miner.latency_ms = latency >= 0 and text_of(latency) or ''
  local price = tonumber(miner.price)

  local bucket = settle_latency_norm(miner, now, latency, online)
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
  if miner.bins ~= indexed.bins or is_of_others(indexed) then move_bins(miner, bins) end
  miner.strategies = STRATEGY_NAMES

  count_mean_latency(indexed.state == 'online' and indexed.latency_ms or '', online and miner.latency_ms or '')
  if indexed.price ~= miner.price then redis.call('ZADD', P .. 'prices', price, slot) end
  if indexed.eta_ms ~= miner.eta_ms then
    if eta < 0 then redis.call('ZREM', P .. 'etas', slot) else redis.call('ZADD', P .. 'etas', miner.eta_ms, slot) end
  end
  write_miner(miner)
  redis.call('HSET', P .. 'records', slot, pack_record(tonumber(miner.lease_until_ms), price,
    number_or(miner.gpu_vram_gb, -1), number_or(miner.ram_gb, -1), eta, steps, miner))
end
