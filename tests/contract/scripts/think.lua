-- Thinks, then answers in five pieces with what was said.
return function(request)
    return { thinking = "about it", text = request.text, chunks = 5, usage = { input_tokens = 11, output_tokens = 7 } }
end
