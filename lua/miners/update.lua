--[[ A heartbeat that also changes the profile: price, tags, capabilities, places, draining. All or nothing.

KEYS[1]   shard prefix
ARGV[1]   clock          ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   kind           'session' | 'key'
ARGV[4]   digest
ARGV[5]   queue_len      '' keeps the value
ARGV[6]   busy           '0' | '1' | ''
ARGV[7]   latency_ms     '' keeps the value
ARGV[8]   current_jobs   '' keeps the value
ARGV[9]   draining       '0' | '1' | ''; the miner's own wish, never lifts an operator's drain
ARGV[10]  seen           '' or the version of the profile that the changes follow from
ARGV[11..] field, value  profile fields that change: base_price, max_parallel, region, tags, capabilities, accel (JSON)

RETURNS {'ok', {now, lease_until, session_until, next_heartbeat}, {{id, name, args}...}}
      | {'session_unknown'} | {'overtaken'} (the profile is another by now) | {'journal_full'} | {'too_many_terms', the first term without room}
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
--- @include "session"

local clock, miner_id, kind, digest, queue_len, busy = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local latency_ms, current_jobs, draining, seen = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local FIRST_FIELD = 11

local now = clock_ms(clock)
local miner = load_miner(miner_id)
if not authenticated(miner, kind, digest) then return { 'session_unknown' } end

local key = miner_key(miner_id)
if seen ~= '' and redis.call('HGET', key, 'profile_version') ~= seen then return { 'overtaken' } end
local changes, flat = {}, {}
for i = FIRST_FIELD, #ARGV, 2 do
  if redis.call('HGET', key, ARGV[i]) ~= ARGV[i + 1] then
    changes[ARGV[i]] = ARGV[i + 1]
    flat[#flat + 1] = ARGV[i]
    flat[#flat + 1] = ARGV[i + 1]
  end
end
if #flat > 0 then
  if journal_full() then return { 'journal_full' } end
  local old = stored_profile(miner_id)
  local new = stored_profile(miner_id)
  for _, list in ipairs({ 'tags', 'capabilities', 'accel' }) do
    if changes[list] then new[list] = cjson.decode(changes[list]) end
  end
  new.region = changes.region or new.region
  local old_terms, new_terms = static_terms(old), static_terms(new)
  local term = term_without_room(old_terms, new_terms)
  if term then return { 'too_many_terms', term } end
  move_static(miner.slot, old_terms, new_terms)
  local version = text_of(next_version(miner_id, now))
  redis.call('HSET', key, 'profile_version', version, 'profile_digest', '', unpack(flat))
  redis.call('XADD', P .. 'journal', '*', 'type', 'profile_change', 'version', version, 'data',
    cjson.encode({ miner_id = miner_id, changes = changes }))
  change_region(miner, new.region)
  if changes.max_parallel then miner.max_parallel = changes.max_parallel end
  if changes.base_price then apply_pricing(miner, load_pricing(miner_id), now) end
end

credit_uptime(miner, now)
local next_beat = grant_lease(miner, now)
take_queue_len(miner, queue_len)
if busy ~= '' then miner.busy = busy end
if latency_ms ~= '' then miner.self_latency_ms = latency_ms end
if draining ~= '' and miner.draining ~= 'admin' then miner.draining = draining == '1' and 'self' or 'no' end
settle(miner, now)
if current_jobs ~= '' then redis.call('HSET', key, 'current_jobs', current_jobs) end
redis.call('SADD', P .. 'changed', miner_id)
return { 'ok', lease_reply(miner, now, next_beat), waiting_commands(miner_id, {}) }
