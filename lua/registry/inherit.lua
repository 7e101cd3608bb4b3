--[[ Takes over what outlives a shard that is gone: counters, and journal entries that could never be written. Runs on shard 0.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME; not used
ARGV[2]   what      names the shard, and what is taken over from it
ARGV[3]   after     the mark of the part that was taken over last, '' for none: where it is another, nothing is done
ARGV[4]   mark      of this part
ARGV[5]   counters  JSON {{name, amount}...}
ARGV[6]   letters   JSON {{field, value...}...}, a few dozen

RETURNS {'ok'} | {'other', the mark that is there}
]]
--- @include "base"

local what, after, mark, counters, letters = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local LETTERS_MAX = 10000

local last = redis.call('HGET', P .. 'inherited', what) or ''
if last ~= after then return { 'other', last } end
redis.call('HSET', P .. 'inherited', what, mark)
for _, counter in ipairs(cjson.decode(counters)) do redis.call('HINCRBY', P .. 'stats', counter[1], counter[2]) end
for _, letter in ipairs(cjson.decode(letters)) do
  redis.call('XADD', P .. 'journal:dead', 'MAXLEN', '~', LETTERS_MAX, '*', unpack(letter))
end
return { 'ok' }
