--[[ Reads the layout that a shard follows, and writes a newer one. The only script that runs whatever that is.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME; not used
ARGV[2]   layout    JSON with its version: written when it is newer than what is there
ARGV[3]   expected  '' or what must be there for the other to be written
ARGV[4]   keep_ms   0 for good, or how long it is kept: by a shard that is gone, for who had begun to look through it

RETURNS {'ok', the layout that is there now}
]]
local layout, expected, keep_ms = ARGV[2], ARGV[3], tonumber(ARGV[4])

local key = KEYS[1] .. 'layout'
local held = redis.call('GET', key) or ''
local version = held == '' and 0 or cjson.decode(held).version
if (expected == '' or expected == held) and cjson.decode(layout).version > version then
  redis.call('SET', key, layout)
  if keep_ms > 0 then redis.call('PEXPIRE', key, keep_ms) end
  held = layout
end
return { 'ok', held }
