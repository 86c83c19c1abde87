-- Answers each scope or budget in turn: `answer` gets its arguments and keys, and returns its reply.
--
-- Keys of another type are that one's error alone, in the server's words without the place in the
-- script; any other error is the command's.
local function batch(answer, keys_each, arguments_each)
  local replies = {}
  for place = 1, #KEYS / keys_each do
    local keys = { unpack(KEYS, keys_each * (place - 1) + 1, keys_each * place) }
    local arguments =
      { unpack(ARGV, arguments_each * (place - 1) + 1, arguments_each * place) }
    local done, reply = pcall(answer, arguments, unpack(keys))
    if not done then
      local words = type(reply) == 'table' and reply.err or tostring(reply)
      words = string.gsub(words, '^@?user_script:%d+: ', '')
      if string.sub(words, 1, 9) ~= 'WRONGTYPE' then return redis.error_reply(words) end
      reply = { words }
    end
    replies[place] = reply
  end
  return replies
end

