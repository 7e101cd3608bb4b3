--[[ One heartbeat: authenticates, credits uptime, renews the lease, takes the readings, moves the index, and answers
with the commands that wait. Also the lease renewal (no readings).

KEYS[1]   shard prefix
ARGV[1]   clock         ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   kind          'session' | 'key'
ARGV[4]   digest        of the session token or the API key
ARGV[5]   queue_len     this and the next four: '' keeps the value
ARGV[6]   busy          '0' | '1'
ARGV[7]   latency_ms    self-reported
ARGV[8]   current_jobs  a count
ARGV[9]   temp_c
ARGV[10]  mem_free_gb
ARGV[11..] ack          ids of commands that the miner has carried out

RETURNS {'ok', {now, lease_until, session_until, next_heartbeat}, {{id, name, args}...}} | {'session_unknown'}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "lease"
--- @include "session"

local clock, miner_id, kind, digest, queue_len, busy = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local latency_ms, current_jobs, temp_c, mem_free_gb = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local FIRST_ACK = 11

local now = clock_ms(clock)
local miner = load_miner(miner_id)
if not authenticated(miner, kind, digest) then return { 'session_unknown' } end

credit_uptime(miner, now)
local next_beat = grant_lease(miner, now)
if queue_len ~= '' then miner.queue_len = queue_len end
if busy ~= '' then miner.busy = busy end
if latency_ms ~= '' then miner.self_latency_ms = latency_ms end
settle(miner, now)

local readings = {}
if current_jobs ~= '' then readings = { 'current_jobs', current_jobs } end
if temp_c ~= '' then readings[#readings + 1] = 'temp_c'; readings[#readings + 1] = temp_c end
if mem_free_gb ~= '' then readings[#readings + 1] = 'mem_free_gb'; readings[#readings + 1] = mem_free_gb end
if #readings > 0 then redis.call('HSET', miner_key(miner_id), unpack(readings)) end
redis.call('SADD', P .. 'changed', miner_id)

local acknowledged = {}
for i = FIRST_ACK, #ARGV do acknowledged[#acknowledged + 1] = ARGV[i] end
return { 'ok', lease_reply(miner, now, next_beat), waiting_commands(miner_id, acknowledged) }
