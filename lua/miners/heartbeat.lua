--[[ Heartbeats of some miners of one shard, each by itself: authenticates, credits uptime, renews the lease, takes the
readings, moves the index, and answers with the commands that wait. Also the lease renewal (no readings).

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME
ARGV[2..] miner_id, kind ('session' | 'key'), digest (of the session token or the API key), queue_len, busy ('0' | '1'),
          latency_ms (self-reported), current_jobs (a count), temp_c, mem_free_gb (readings: '' keeps the value), number of
          acknowledged commands, their ids; repeated, at most a few dozen times

RETURNS {'ok', answer...}, one for each heartbeat: {'ok', {now, lease_until, session_until, next_heartbeat},
        {{id, name, args}...}} | {'session_unknown'} | an error, which concerns this heartbeat alone
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "lease"
--- @include "session"

local clock = ARGV[1]
local FIRST_BEAT = 2
local TO_ACKS = 10 -- from the start of a heartbeat to the first acknowledged id

local now = clock_ms(clock)
local changed = {}

local function write_readings(miner_id, current_jobs, temp_c, mem_free_gb)
  local readings = {}
  if current_jobs ~= '' then readings = { 'current_jobs', current_jobs } end
  if temp_c ~= '' then readings[#readings + 1] = 'temp_c'; readings[#readings + 1] = temp_c end
  if mem_free_gb ~= '' then readings[#readings + 1] = 'mem_free_gb'; readings[#readings + 1] = mem_free_gb end
  if #readings > 0 then redis.call('HSET', miner_key(miner_id), unpack(readings)) end
end

local function take_beat(at, acks)
  local miner_id, kind, digest, queue_len, busy, latency_ms = unpack(ARGV, at, at + 5)
  local miner = load_miner(miner_id)
  if not authenticated(miner, kind, digest) then return { 'session_unknown' } end

  credit_uptime(miner, now)
  local next_beat = grant_lease(miner, now)
  take_queue_len(miner, queue_len)
  if busy ~= '' then miner.busy = busy end
  if latency_ms ~= '' then miner.self_latency_ms = latency_ms end
  settle(miner, now)
  write_readings(miner_id, unpack(ARGV, at + 6, at + 8))
  changed[#changed + 1] = miner_id

  local first_ack = at + TO_ACKS
  return { 'ok', lease_reply(miner, now, next_beat), waiting_commands(miner_id, { unpack(ARGV, first_ack, first_ack + acks - 1) }) }
end

-- What Redis refused comes as a table, what went wrong in here as text.
local function failure(thrown)
  return type(thrown) == 'table' and thrown or redis.error_reply('ERR ' .. tostring(thrown))
end

local answers, at = { 'ok' }, FIRST_BEAT
while at <= #ARGV do
  local acks = tonumber(ARGV[at + TO_ACKS - 1])
  local taken, answer = pcall(take_beat, at, acks)
  answers[#answers + 1] = taken and answer or failure(answer)
  at = at + TO_ACKS + acks
end
if #changed > 0 then redis.call('SADD', P .. 'changed', unpack(changed)) end
return answers
