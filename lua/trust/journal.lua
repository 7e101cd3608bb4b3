--[[ Puts a feedback that Postgres could not take into the journal of its miner's shard.

KEYS[1]   shard prefix
ARGV[1]   clock  not used: stream ids have their own
ARGV[2]   data   the feedback as JSON

RETURNS {'ok'} | {'journal_full'}
]]
--- @include "base"

local data = ARGV[2]

local journal = P .. 'journal'
if redis.call('XLEN', journal) >= C.journal_max then return { 'journal_full' } end
redis.call('XADD', journal, '*', 'type', 'feedback', 'data', data)
return { 'ok' }
