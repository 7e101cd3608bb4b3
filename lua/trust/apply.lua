--[[ Tells the registry of a committed feedback: the miner's new trust and observed latency, unless it knows newer ones,
and the end of its reservation. Running it twice changes nothing more.

KEYS[1]   shard prefix
ARGV[1]   clock            ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   seq              number of the feedback behind the values; 0 leaves trust alone
ARGV[4]   alpha
ARGV[5]   beta
ARGV[6]   score            alpha / (alpha + beta)
ARGV[7]   latency_ms       observed, '' before the first sample
ARGV[8]   samples          behind the observed latency
ARGV[9]   reservation_id   '' when there is none
ARGV[10]  reservation_end  'confirmed' (one more in queue_len) | 'released' (the job's no more, also when it was confirmed)

RETURNS {'applied'} | {'stale'} (these values or newer ones are known) | {'unknown_miner'} (not in the registry now)
]]
--- @include "base"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "record"
--- @include "miner"
--- @include "reservation"

local clock, miner_id, seq, alpha, beta, score = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local latency_ms, samples, reservation_id, reservation_end = ARGV[7], ARGV[8], ARGV[9], ARGV[10]

local now = clock_ms(clock)
-- Only a reservation of this very miner: a feedback never ends the place that a job holds on another.
if reservation_id ~= '' and redis.call('HGET', reservation_key(reservation_id), 'miner_id') == miner_id then
  local was = state_of(reservation_id, now)
  if was == 'held' then end_reservation(reservation_id, now, reservation_end) end
  if was == 'confirmed' and reservation_end == 'released' then give_up_confirmed(reservation_id) end
end

local miner = load_miner(miner_id)
if not miner then return { 'unknown_miner' } end
local known_seq = tonumber(redis.call('HGET', miner_key(miner_id), 'trust_seq'))
if tonumber(seq) <= known_seq then return { 'stale' } end
redis.call('HSET', miner_key(miner_id), 'trust_seq', seq, 'alpha', alpha, 'beta', beta)
miner.trust, miner.observed_latency_ms, miner.observed_samples = score, latency_ms, samples
settle(miner, now)
return { 'applied' }
