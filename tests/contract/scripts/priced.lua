--model: context=100000 max_output=2000 input=10 output=100
-- Each answer costs twenty cents: 10,000 tokens in, 1,000 out. What ends with "call NAME" calls the
-- custom tool of that name first.
local usage = { input_tokens = 10000, output_tokens = 1000 }
return function(request)
    local name = request.text:match("call (%w+)%s*$")
    if name and #request.results == 0 then
        return { tools = { { name = name, input = {} } }, usage = usage }
    end
    return { text = "spent", usage = usage }
end
