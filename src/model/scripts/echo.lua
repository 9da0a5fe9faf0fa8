-- script/echo: answers with what was last said to it.
return function(request)
    return request.text
end
