--[[ Adds a correction to a count of a histogram or of the totals. Sums commute, so miners may come and go meanwhile.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME; not used
ARGV[2]   hash    'stats' | 'latency:<region>'
ARGV[3]   field
ARGV[4]   amount  whole number
ARGV[5]   token   of this correction: the same call again adds nothing more

RETURNS {'ok'}
]]
--- @include "base"
--- @include "once"

local hash, field, amount, token = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if earlier_answer(token) then return { 'ok' } end
remember_answer(token, '1')
local left = redis.call('HINCRBY', P .. hash, field, amount)
-- A bucket that nobody is in has no field.
if left <= 0 and hash ~= 'stats' then redis.call('HDEL', P .. hash, field) end
return { 'ok' }
