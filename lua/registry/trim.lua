--[[ Cuts bitmaps down to the slots that there are: Redis lengthens a bitmap and never shortens it, and matches read all of it.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME; not used
ARGV[2..] term   at most a few dozen

RETURNS {'ok', bytes cut off}
]]
--- @include "base"

local FIRST_TERM = 2

local bytes = math.ceil(tonumber(redis.call('GET', P .. 'slots:next') or 0) / 8)
local cut = 0
for i = FIRST_TERM, #ARGV do
  local key = P .. 'ix:' .. ARGV[i]
  local length = redis.call('STRLEN', key)
  if length > bytes and bytes > 0 and redis.call('BITPOS', key, 1, bytes) < 0 then
    redis.call('SET', key, redis.call('GETRANGE', key, 0, bytes - 1))
    cut = cut + length - bytes
  end
end
return { 'ok', cut }
