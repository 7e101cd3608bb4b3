--[[ Compares the count of each term with the bits of its bitmap; when asked, the count follows the bits.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME; not used
ARGV[2]   mode   'look' | 'mend'
ARGV[3..] term   at most a few dozen

RETURNS {'ok', {count, bits, bitmap there (0|1)}...} as found
]]
--- @include "base"
--- @include "bins"
--- @include "terms"
--- @include "index"
--- @include "carried"

local mode = ARGV[2]
local FIRST_TERM = 3

local found = { 'ok' }
for i = FIRST_TERM, #ARGV do
  local term, key = ARGV[i], P .. 'ix:' .. ARGV[i]
  local counts, field = any_counter_of(term)
  local count, bits = tonumber(redis.call('HGET', counts, field) or 0), redis.call('BITCOUNT', key)
  local there = redis.call('EXISTS', key)
  found[#found + 1] = { count, bits, there }
  if mode == 'mend' then
    if bits > 0 then
      redis.call('HSET', counts, field, bits)
    else
      redis.call('HDEL', counts, field)
      redis.call('DEL', key)
    end
  end
end
return found
