--[[ Puts a miner that move_out took out of another shard into this one, with all that it was, unless that was done before.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   state     JSON as move_out gave it
ARGV[4]   until_ms  when the mover's token ends
ARGV[5]   profile   '' or JSON for the journal

RETURNS {'ok'} | {'there'} (it came before; it may have left since) | {'late'} (the token ended long ago: ask move_out again)
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "reservation"
--- @include "remove"
--- @include "slot"
--- @include "outage"

local clock, miner_id, state_json, until_ms, profile_json = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local CLOCK_SKEW_MS = 30000 -- between masters of a cluster; shorter than a finished move is remembered
local REMEMBER_MS = 86400000

local now = clock_ms(clock)
local came, key = P .. 'moved:' .. miner_id, miner_key(miner_id)
local state = cjson.decode(state_json)
-- A miner is taken out once in each layout, so a mover that was late does not bring back one that came before and has left since.
if redis.call('GET', came) == state.layout or redis.call('HEXISTS', key, 'slot') == 1 then return { 'there' } end
if now > until_ms + CLOCK_SKEW_MS then return { 'late' } end

local function put_reservations(list)
  for _, reservation in ipairs(list) do
    local name = reservation_key(reservation.id)
    redis.call('DEL', name)
    redis.call('HSET', name, unpack(reservation.fields))
    redis.call('ZADD', P .. 'reservations', redis.call('HGET', name, 'until_ms'), reservation.id)
    redis.call('HSET', key, hold_field(reservation.id), '1')
  end
end

local function put_index(state)
  local slot = take_slot()
  local outage = outage_so_far(now) - tonumber(state.outage_ms)
  local since = number_or(redis.call('HGET', key, 'registered_outage_ms'), nil)
  if since then redis.call('HSET', key, 'registered_outage_ms', text_of(since + outage)) end
  redis.call('HSET', key, 'slot', slot, 'bins', '', 'reserved', #state.reservations)
  local miner = load_miner(miner_id)
  move_static(slot, {}, static_terms(stored_profile(miner_id)))
  if miner.state == 'online' then count_mean_latency('', miner.latency_ms) end
  -- At first there are few here to compare its latency with.
  miner.keeps_latency_norm = true
  miner.indexed.price, miner.indexed.eta_ms = '', ''
  settle(miner, now)
end

local function put_miner(state)
  redis.call('HSET', key, unpack(state.fields))
  put_reservations(state.reservations)
  put_index(state)
  redis.call('ZADD', P .. 'leases', state.lease_due, miner_id)
  if state.override_due ~= '' then redis.call('ZADD', P .. 'overrides', state.override_due, miner_id) end
  for _, entry in ipairs(state.commands) do redis.call('XADD', P .. 'commands:' .. miner_id, entry[1], unpack(entry[2])) end
  if state.changed == 1 then redis.call('SADD', P .. 'changed', miner_id) end
  if profile_json ~= '' then
    local version = redis.call('HGET', key, 'profile_version')
    redis.call('XADD', JOURNAL, '*', 'type', 'profile', 'version', version, 'data', profile_json)
  end
end

if state.fields then put_miner(state) end
if state.uptime_ms then redis.call('SET', P .. 'uptime:' .. miner_id, state.uptime_ms, 'PX', math.max(1, state.uptime_ttl_ms)) end
redis.call('SET', came, state.layout, 'PX', REMEMBER_MS)
redis.call('UNLINK', P .. 'moving:' .. miner_id)
return { 'ok' }
