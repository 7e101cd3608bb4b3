-- Tells the registry of a committed feedback: the miner's new trust and observed latency, unless it knows newer ones,
-- and the end of the reservation. Running it twice changes nothing more.
-- KEYS: shard
-- ARGV: clock, miner_id, seq, alpha, beta, score, observed_latency_ms, observed_samples, reservation_id, reservation_end
--   seq 0 leaves trust alone; reservation_end is `confirmed`, `released` or '' (there is none)
-- RETURNS: {'applied'} | {'stale'} trust known already | {'unknown_miner'} not in the registry now
--- @include "base"
--- @include "terms"
--- @include "index"
--- @include "record"
--- @include "miner"
--- @include "reservation"
local clock, id, seq, alpha, beta, score = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local latency, samples, reservation, reservation_end = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local now = clock_ms(clock)

-- Only a reservation of this very miner: a feedback never ends the place that another one holds.
if reservation_end ~= '' and redis.call('HGET', reservation_key(reservation), 'miner_id') == id then
  end_reservation(reservation, now, reservation_end)
end

local miner = load_miner(id)
if not miner then return { 'unknown_miner' } end
if tonumber(seq) <= number_or(redis.call('HGET', miner_key(id), 'trust_seq') or '', 0) then return { 'stale' } end
redis.call('HSET', miner_key(id), 'trust_seq', seq, 'alpha', alpha, 'beta', beta)
miner.trust = score
miner.observed_latency_ms = latency
miner.observed_samples = samples
settle(miner, now)
return { 'applied' }
