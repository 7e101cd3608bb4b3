--[[ Registers a miner: checks its key, writes profile and lease, replaces the session, moves the index.

KEYS[1]   shard prefix
ARGV[1]   clock           ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   key_digest      HMAC of the API key, hex
ARGV[4]   session_digest  SHA-256 of the new session token, hex
ARGV[5]   channel         control channel for the replaced session
ARGV[6]   profile         JSON as the journal takes it; its digest tells whether it changed
ARGV[7]   profile_digest
ARGV[8]   durable         '' or JSON of what Postgres remembers: then Postgres has vouched for the key
ARGV[9..] field, value    the profile as hash fields; lists as JSON

RETURNS {'ok', created (0|1), now, lease_until, session_until, next_heartbeat} (ms)
      | {'unknown_key'} | {'journal_full'} | {'too_many_terms', the first term without room}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "price"
--- @include "lease"
--- @include "remove"
--- @include "slot"
--- @include "outage"

local clock, miner_id, key_digest, session_digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local channel, profile_json, profile_digest, durable_json = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local FIRST_FIELD = 9

local now = clock_ms(clock)
local miner = load_miner(miner_id)
local created = miner == nil
if durable_json == '' and (created or miner.key_digest ~= key_digest) then return { 'unknown_key' } end

local fields = {}
for i = FIRST_FIELD, #ARGV, 2 do fields[ARGV[i]] = ARGV[i + 1] end

local changed = redis.call('HGET', miner_key(miner_id), 'profile_digest') ~= profile_digest
local old_terms, new_terms = {}, {}
if changed then
  if journal_full() then return { 'journal_full' } end
  if not created then old_terms = static_terms(stored_profile(miner_id)) end
  new_terms = static_terms({
    accel = cjson.decode(fields.accel), tags = cjson.decode(fields.tags), capabilities = cjson.decode(fields.capabilities),
    gpu_key = fields.gpu_key, region = fields.region, vram = number_or(fields.gpu_vram_gb, -1),
    ram = number_or(fields.ram_gb, -1),
  })
  local term = term_without_room(old_terms, new_terms)
  if term then return { 'too_many_terms', term } end
end

local pricing = load_pricing(miner_id)
if created then
  miner = blank_miner(miner_id)
  miner.slot, miner.last_seen_ms, miner.lease_until_ms = take_slot(), text_of(now), text_of(now)
  miner.uptime_ms, miner.reserved, miner.draining, miner.trust = '0', '0', 'no', '0.5'
  miner.observed_latency_ms, miner.observed_samples, miner.self_latency_ms = '', '0', ''
  miner.latency_norm_at_ms, miner.session = '', ''
  local registration = string.sub(session_digest, 1, 16)
  redis.call('HSET', miner_key(miner_id), 'registered_at_ms', text_of(now), 'registered_outage_ms', text_of(outage_so_far(now)),
    'registration', registration, 'alpha', '2', 'beta', '2', 'trust_seq', '0')
else
  credit_uptime(miner, now)
  if miner.draining == 'self' then miner.draining = 'no' end
  change_region(miner, fields.region)
end

move_static(miner.slot, old_terms, new_terms)

if durable_json ~= '' then
  local durable = cjson.decode(durable_json)
  local held_seq = tonumber(redis.call('HGET', miner_key(miner_id), 'trust_seq'))
  if created or tonumber(durable.trust_seq) > held_seq then
    redis.call('HSET', miner_key(miner_id), 'alpha', durable.alpha, 'beta', durable.beta, 'trust_seq', durable.trust_seq)
    miner.trust = durable.trust
    miner.observed_latency_ms, miner.observed_samples = durable.observed_latency_ms, durable.observed_samples
  end
  if created and durable.price_override ~= '' then
    set_override(miner_id, pricing, durable.price_override, durable.price_override_until_ms)
  end
end

if miner.session ~= '' and miner.session ~= session_digest then
  redis.call('PUBLISH', channel, cjson.encode({ type = 'replaced', miner_id = miner_id, session = session_digest }))
end
miner.session, miner.key_digest, miner.region = session_digest, key_digest, fields.region
miner.gpu_vram_gb, miner.ram_gb = fields.gpu_vram_gb, fields.ram_gb
miner.max_parallel, pricing.base_price = fields.max_parallel, fields.base_price
miner.addr, miner.proto = fields.addr, fields.proto
apply_pricing(miner, pricing, now)
miner.queue_len, miner.queue_told, miner.busy = '0', '', '0'
local next_beat = grant_lease(miner, now)
settle(miner, now)
store_pricing(miner_id, pricing)

if changed then
  local version = text_of(next_version(miner_id, now))
  local flat = { 'profile_digest', profile_digest, 'profile_version', version }
  for i = FIRST_FIELD, #ARGV do flat[#flat + 1] = ARGV[i] end
  redis.call('HSET', miner_key(miner_id), unpack(flat))
  redis.call('XADD', P .. 'journal', '*', 'type', 'profile', 'version', version, 'data', profile_json)
end
redis.call('HSET', miner_key(miner_id), 'current_jobs', '0')
redis.call('SADD', P .. 'changed', miner_id)
return { 'ok', created and 1 or 0, unpack(lease_reply(miner, now, next_beat)) }
