--[[ Writes anew all that follows from the hashes of some miners: index bits, bins (weights may have changed), record, entries
of the sorted sets. The counts of terms may be off afterwards: recount follows.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME
ARGV[2..] miner_id  at most a few dozen

RETURNS {'ok', miners written}
]]
--- @include "base"
--- @include "record"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "remove"
--- @include "slot"

local clock = ARGV[1]
local FIRST_ID = 2
local BINS = AT_STEPS - 1 + #C.strategies
local ANY = '?' -- differs from every stored value, so that settle writes

local now = clock_ms(clock)

-- A bit that is there is not counted twice.
local function ensure_term(slot, term)
  if redis.call('SETBIT', P .. 'ix:' .. term, slot, 1) == 0 then redis.call('HINCRBY', TERMS, term, 1) end
end

local function ensure_bins(miner)
  local position, whole = 0, true
  for text in string.gmatch(miner.bins, '[^,]+') do
    position = position + 1
    whole = whole and string.find(text, '^%-?%d+$') ~= nil
  end
  if whole and position == BINS then
    position = 0
    for text in string.gmatch(miner.bins, '[^,]+') do
      position = position + 1
      local a, b = bin_terms(position, tonumber(text))
      if a then ensure_term(miner.slot, a) end
      if b then ensure_term(miner.slot, b) end
    end
    return
  end
  -- Bins of other strategies, or none that can be read: settle sets all bits again, and the histogram forgets the miner.
  count_latency(miner.region, tonumber(string.match(miner.bins, BINS_UP_TO_LATENCY) or -1) or -1, -1)
  miner.was.bins = nil
end

local function reindex(miner)
  local shared = redis.call('HGET', P .. 'records', miner.slot)
  if shared and record_id(shared) ~= miner.id and lives_at(record_id(shared), miner.slot) then
    miner.slot = take_slot()
  end
  for _, term in ipairs(static_terms(stored_profile(miner.id))) do ensure_term(miner.slot, term) end
  ensure_bins(miner)
  miner.was.price, miner.was.eta_ms = ANY, ANY
  miner.next_step_ms = tonumber(miner.lease_until_ms) + (miner.state == 'online' and 0 or C.grace_ms)
  settle(miner, now)
  local step = tonumber(redis.call('ZSCORE', P .. 'leases', miner.id) or nil)
  -- A removal that is held back is looked at later than the lease says.
  if not step or miner.state == 'online' or step < miner.next_step_ms * 1 then
    redis.call('ZADD', P .. 'leases', miner.next_step_ms, miner.id)
  end
  if miner.price_override ~= '' and miner.price_override_until_ms ~= '' then
    redis.call('ZADD', P .. 'overrides', miner.price_override_until_ms, miner.id)
  else
    redis.call('ZREM', P .. 'overrides', miner.id)
  end
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
