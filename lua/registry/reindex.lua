--[[ Writes anew all that follows from the hashes of some miners: index bits, bins (weights may have changed), record, entries
of the sorted sets. The counts of terms may be off afterwards: recount follows.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME
ARGV[2..] miner_id  at most a few dozen

RETURNS {'ok', miners written}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "price"
--- @include "remove"
--- @include "carried"
--- @include "slot"

local clock = ARGV[1]
local FIRST_ID = 2
local BUCKET = '^' .. string.rep('[^,]*,', AT_LATENCY - 1) .. '(%d+)'
local ANY = '?' -- differs from every stored value, so that settle writes

local now = clock_ms(clock)

-- A bit that is there is not counted twice.
local function ensure_term(slot, term)
  if redis.call('SETBIT', P .. 'ix:' .. term, slot, 1) == 0 then
    local counts, field = any_counter_of(term)
    redis.call('HINCRBY', counts, field, 1)
  end
end

local function ensure_bins(miner)
  local bins, strategies = miner.indexed.bins, strategies_of(miner.indexed.strategies)
  if readable_bins(bins, strategies) then
    each_bin_term(bins, strategies, function(term) ensure_term(miner.slot, term) end)
    return
  end
  -- None that can be read: settle sets all bits again, and the histogram forgets the miner.
  count_latency(miner.region, tonumber(string.match(bins, BUCKET) or nil), -1)
  miner.indexed.bins = ''
end

local function ensure_lease(miner)
  local step = tonumber(redis.call('ZSCORE', P .. 'leases', miner.id) or nil)
  local due = tonumber(miner.lease_until_ms)
  if miner.state ~= 'online' then
    due = due + C.grace_ms
    -- A removal that is held back is looked at later than the lease says.
    if step and step >= due then return end
  end
  redis.call('ZADD', P .. 'leases', due, miner.id)
end

local function reindex(miner)
  local record = redis.call('HGET', P .. 'records', miner.slot)
  if record and record_id(record) ~= miner.id and lives_at(record_id(record), miner.slot) then
    miner.slot = take_slot()
  end
  for _, term in ipairs(static_terms(stored_profile(miner.id))) do ensure_term(miner.slot, term) end
  ensure_bins(miner)
  local pricing = load_pricing(miner.id)
  set_override(miner.id, pricing, pricing.price_override, pricing.price_override_until_ms)
  apply_pricing(miner, pricing, now)
  miner.indexed.price, miner.indexed.eta_ms = ANY, ANY
  settle(miner, now)
  ensure_lease(miner)
end

local written = 0
for i = FIRST_ID, #ARGV do
  local miner = load_miner(ARGV[i])
  if miner then
    reindex(miner)
    written = written + 1
  end
end
return { 'ok', written }
