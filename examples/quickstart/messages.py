# messages.py: both services have this file
from dataclasses import dataclass
from catga_sync import Request

@dataclass(frozen=True)
class UserResponse:
    user_id: str
    name: str

@dataclass(frozen=True)
class GetUserRequest(Request[UserResponse]):
    user_id: str
