-- Calls that may not happen twice. A cluster whose connection breaks has the client send the call again, which may be the second
-- time that it runs; the token that its caller drew tells.
local REMEMBER_MS = 60000 -- longer than any client goes on asking

local function once_key(token)
  return P .. 'once:' .. token
end

-- What the first run of the call answered, or nil.
local function earlier_answer(token)
  return redis.call('GET', once_key(token)) or nil
end

local function remember_answer(token, answer)
  redis.call('SET', once_key(token), answer, 'PX', REMEMBER_MS)
end
