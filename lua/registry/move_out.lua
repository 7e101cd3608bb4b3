--[[ Takes a miner out of a shard, to be put into another: what it was waits under `moving:<id>` for whoever holds the token.
Running it again with the same token gives the same answer; another token gets it once the first has run out.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   token     of the mover
ARGV[4]   token_ms  how long the token holds
ARGV[5]   which     'any' | 'taken_out': only a miner that somebody took out before

RETURNS {'taken', state (JSON), until_ms} | {'busy'} (another mover is at it)
      | {'gone', the layout in which it last came here ('' unknown)} (nothing of the miner is here)
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "reservation"
--- @include "remove"
--- @include "outage"

local clock, miner_id, token, token_ms, which = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local POINTER_MS = 86400000
local JOURNAL_MARGIN_MS = 60000
local HOLD = '^' .. hold_field('(.+)') .. '$'

local now = clock_ms(clock)
local key, until_ms = P .. 'moving:' .. miner_id, text_of(now + token_ms)

local taken = redis.call('HMGET', key, 'token', 'until_ms', 'state')
if taken[1] then
  if taken[1] ~= token and tonumber(taken[2]) > now then return { 'busy' } end
  redis.call('HSET', key, 'token', token, 'until_ms', until_ms)
  return { 'taken', taken[3], until_ms }
end
local gone = { 'gone', redis.call('GET', P .. 'moved:' .. miner_id) or '' }
if which ~= 'any' then return gone end

-- A held reservation goes along; what stays names the miner, for those who ask by the reservation's id.
local function take_reservation(id)
  local name = reservation_key(id)
  local fields = redis.call('HGETALL', name)
  if redis.call('HGET', name, 'state') ~= 'held' then return nil end
  redis.call('ZREM', P .. 'reservations', id)
  redis.call('HSET', name, 'state', 'moving')
  redis.call('PEXPIRE', name, POINTER_MS)
  return { id = id, fields = fields }
end

-- Whether the journal may still hold an entry about the profile (one too many does no harm): then the profile has to stand in the journal of the next shard too, or
-- the two journals would reach Postgres in any order.
local function is_journaled(profile_version)
  local first = redis.call('XRANGE', JOURNAL, '-', '+', 'COUNT', 1)[1]
  return first ~= nil and tonumber(string.match(first[1], '^%d+')) <= number_or(profile_version, 0) + JOURNAL_MARGIN_MS
end

local function take_miner(miner)
  local name, commands = miner_key(miner_id), P .. 'commands:' .. miner_id
  local flat, fields, reservations = redis.call('HGETALL', name), {}, {}
  for i = 1, #flat, 2 do
    local held = string.match(flat[i], HOLD)
    if held then
      reservations[#reservations + 1] = take_reservation(held)
    else
      fields[#fields + 1] = flat[i]
      fields[#fields + 1] = flat[i + 1]
    end
  end
  local state = {
    fields = fields, reservations = reservations, commands = redis.call('XRANGE', commands, '-', '+'),
    lease_due = redis.call('ZSCORE', P .. 'leases', miner_id) or miner.lease_until_ms,
    override_due = redis.call('ZSCORE', P .. 'overrides', miner_id) or '',
    changed = redis.call('SISMEMBER', P .. 'changed', miner_id), outage_ms = text_of(outage_so_far(now)),
    journaled = is_journaled(redis.call('HGET', name, 'profile_version')),
  }
  leave_index(miner)
  redis.call('UNLINK', name, commands)
  return state
end

local miner, uptime_key = load_miner(miner_id), P .. 'uptime:' .. miner_id
local uptime = redis.call('GET', uptime_key)
if not miner and not uptime then return gone end
local state = miner and take_miner(miner) or {}
state.layout = C.layout
if uptime then
  state.uptime_ms, state.uptime_ttl_ms = uptime, redis.call('PTTL', uptime_key)
  redis.call('UNLINK', uptime_key)
end
local text = cjson.encode(state)
redis.call('HSET', key, 'token', token, 'until_ms', until_ms, 'state', text)
return { 'taken', text, until_ms }
