--[[ Reads what goes to another shard by itself: the plan of a job, or a reservation that holds no place any more.

KEYS[1]   shard prefix
ARGV[1]   clock  ms, or '' for Redis TIME; not used
ARGV[2]   name   'job:<id>' | 'reservation:<id>'

RETURNS {'ok', time to live (ms, -1 for none), state ('' for a job), {field, value...}} | {'gone'}
      | {'with_miner'} (a place is held: the reservation goes with its miner)
]]
--- @include "base"

local name = ARGV[2]

local key = P .. name
local fields = redis.call('HGETALL', key)
if #fields == 0 then return { 'gone' } end
local about = redis.call('HMGET', key, 'state', 'miner_id', 'registration')
local state = about[1] or ''
if state == 'moving' then return { 'with_miner' } end
if state == 'held' and redis.call('HGET', P .. 'miner:' .. about[2], 'registration') == about[3] then return { 'with_miner' } end
return { 'ok', redis.call('PTTL', key), state, fields }
