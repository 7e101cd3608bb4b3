--[[ Takes a miner out of the registry at once: its own logout, or an operator's removal.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME
ARGV[2]   miner_id
ARGV[3]   kind      'session' | 'key' | 'operator' (no digest asked)
ARGV[4]   digest
ARGV[5]   reason    for the journal
ARGV[6]   channel   control channel: the miner's socket closes

RETURNS {'ok'} | {'session_unknown'}
]]
--- @include "base"
--- @include "record"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "miner"
--- @include "remove"
--- @include "session"

local clock, miner_id, kind, digest, reason, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]

local now = clock_ms(clock)
local miner = load_miner(miner_id)
if not miner or (kind ~= 'operator' and not authenticated(miner, kind, digest)) then return { 'session_unknown' } end
remove_miner(miner, now, reason)
redis.call('PUBLISH', channel, cjson.encode({ type = 'gone', miner_id = miner_id }))
return { 'ok' }
