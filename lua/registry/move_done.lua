--[[ Forgets what move_out kept, in the shard that a miner left; and in the shard it came to, after a while, that it came.

KEYS[1]   shard prefix
ARGV[1]   clock     ms, or '' for Redis TIME; not used
ARGV[2]   miner_id
ARGV[3]   token     of the mover; what another has taken over is left to it

RETURNS {'ok'}
]]
--- @include "base"

local miner_id, token = ARGV[2], ARGV[3]
local REMEMBER_MS = 60000

local key = P .. 'moving:' .. miner_id
local taken = redis.call('HMGET', key, 'token', 'state')
if taken[1] == token then
  for _, reservation in ipairs(cjson.decode(taken[2]).reservations or {}) do
    local name = P .. 'reservation:' .. reservation.id
    if redis.call('HGET', name, 'state') == 'moving' then redis.call('UNLINK', name) end
  end
  redis.call('UNLINK', key)
end
redis.call('PEXPIRE', P .. 'moved:' .. miner_id, REMEMBER_MS)
return { 'ok' }
